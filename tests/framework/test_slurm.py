from pathlib import Path

import pytest

from poise.errors import UserError
from poise.slurm import squeue


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
