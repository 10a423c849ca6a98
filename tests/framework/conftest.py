"""A machine without Slurm, and one with a fake of it, for what submits jobs."""

from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory on a machine without Slurm."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    for name in ("bash", "cat"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def sbatch(here: Path) -> Path:
    """A fake sbatch takes the job, and keeps it where this says."""
    script = here.parent / "bin" / "sbatch"
    script.write_text(
        f'#!/bin/bash\n[ "$1" = --parsable ] && cat "$2" >{here.parent}/taken && echo "Welcome! 4711;cluster"\n'
    )
    script.chmod(0o755)
    return here.parent / "taken"
