"""Jobs that Slurm ends go back into the queue where they make room for another, and not where somebody ends them."""

from pathlib import Path

import pytest

from cluster.slurm import Cluster

STAND_IN = """#!/bin/bash
run=${@: -1}
run=$(dirname "${run#config=}")
trap 'exit 143' TERM
echo started >>"$run/starts"
if [ -n "${SLURM_RESTART_COUNT:-}" ]; then
    echo '{}' >"$run/report.json"
    exit
fi
while true; do sleep 0.1; done
"""  # in place of Python: what a run that is told to end looks like from outside


@pytest.fixture
def job(cluster: Cluster, tmp_path: Path) -> str:
    """The number of one that would not end by itself."""
    (tmp_path / "python").write_text(STAND_IN)
    (tmp_path / "python").chmod(0o755)
    words = ("recipe=plain", "tracking=none", "run_dir=run", "slurm.extra=--nodelist=n3")
    number = cluster.submit(*words, f"slurm.python={tmp_path}/python", cwd=tmp_path)
    cluster.until("the run has started", lambda: starts(tmp_path) == 1)
    return number


def starts(folder: Path) -> int:
    file = folder / "run" / "starts"
    return file.read_text().count("started") if file.exists() else 0


def test_a_job_that_makes_room_for_another_goes_on_afterwards(cluster: Cluster, job: str, tmp_path: Path) -> None:
    urgent = ("--partition=urgent", "--nodelist=n3", "--exclusive", "--output=/dev/null")
    other = cluster.run("sbatch", "--parsable", *urgent, "--wrap=sleep 1")
    assert cluster.ended(other) == "COMPLETED"
    assert cluster.ended(job) == "COMPLETED"
    assert starts(tmp_path) == 2


def test_a_job_that_is_cancelled_is_over(cluster: Cluster, job: str, tmp_path: Path) -> None:
    cluster.run("scancel", job)
    cluster.until("nothing of it is left", lambda: cluster.run("squeue", "--noheader", f"--jobs={job}") == "")
    assert {"JobState": "CANCELLED", "Restarts": "0"}.items() <= cluster.job(job).items()
    assert starts(tmp_path) == 1
