import re
from pathlib import Path

import pytest

from poise import slurm
from poise.errors import UserError
from poise.slurm import sbatch, squeue


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake squeue, to be written; it is found before any other."""
    (tmp_path / "squeue").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    return tmp_path / "squeue"


def says(program: Path, text: str) -> None:
    program.write_text(f"#!/bin/bash\n{text}\n")


def test_jobs_that_are_queued_are_told_by_the_number_that_sbatch_gave(program: Path) -> None:
    says(
        program,
        'case $* in *--clusters=far*) echo "7 PENDING";; *) echo "4711_0 RUNNING"; echo "4711_1 PENDING";; esac',
    )
    assert squeue(["4711_0", "4711_1", "4711_2", "7;far", "7"]) == {
        "4711_0": "RUNNING",
        "4711_1": "PENDING",
        "7;far": "PENDING",
    }


def test_an_array_is_asked_for_once_and_told_job_by_job(program: Path, tmp_path: Path) -> None:
    says(program, f'echo "$@" >>{tmp_path}/asked')
    squeue(["4711_0", "4711_1", "4713"])
    assert (tmp_path / "asked").read_text() == "--noheader --format=%i %T --jobs=4711,4713 --array\n"


def test_a_job_that_slurm_has_forgotten_is_over(program: Path) -> None:
    says(program, 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1')
    assert squeue(["4711"]) == {}


def test_no_answer_is_no_answer(program: Path) -> None:
    says(program, 'echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1')
    with pytest.raises(UserError, match="squeue cannot say which jobs are still queued: .*Unable to contact"):
        squeue(["4711"])


def test_without_squeue_nobody_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert squeue(["4711"]) == {}


@pytest.mark.parametrize("line", ["4711_[0-3] PENDING", "<html>", "4711_0", "4711_0 RUNNING 3:00", "Traceback"])
def test_a_line_that_cannot_be_read_is_no_job_that_is_over(line: str, program: Path) -> None:
    says(program, f'echo "4711_4 RUNNING"; echo "{line}"')
    with pytest.raises(UserError, match=f"^squeue cannot say which jobs are still queued: '{re.escape(line)}' is no"):
        squeue(["4711_0", "4711_4"])


def test_what_stands_above_the_jobs_of_a_named_cluster_is_none(program: Path) -> None:
    says(program, 'echo "CLUSTER: far"; echo "7 PENDING"; echo')
    assert squeue(["7;far"]) == {"7;far": "PENDING"}


def test_of_much_that_is_said_the_beginning_is_shown(program: Path) -> None:
    says(program, 'printf "no %.0s" {1..9999} >&2; exit 1')
    program.with_name("sbatch").symlink_to(program)
    with pytest.raises(UserError, match="^squeue cannot say .*: (no )+n?o?…$") as caught:
        squeue(["4711"])
    assert len(str(caught.value)) < 600
    with pytest.raises(UserError, match="^sbatch did not take the job: (no )+n?o?…$") as caught:
        sbatch(program)
    assert len(str(caught.value)) < 600


def test_programs_that_never_answer_are_not_waited_for(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says(program, "exec sleep 60")
    program.with_name("sbatch").symlink_to(program)
    monkeypatch.setattr(slurm, "SQUEUE_WAITS", 0.2)
    monkeypatch.setattr(slurm, "SBATCH_WAITS", 0.2)
    with pytest.raises(UserError, match=r"^squeue has not answered for 0\.2 s: try again when it does$"):
        squeue(["4711"])
    with pytest.raises(UserError, match=r"^sbatch has not answered for 0\.2 s: see whether the job is queued all the"):
        sbatch(program)
