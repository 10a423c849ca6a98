"""Two jobs on one run directory: the second is refused before its ranks start, until the first has ended, however."""

import subprocess
import sys
from pathlib import Path

import pytest

from poise.cli import main
from poise.run_directory import RunDirectory

HOLDS = """
import sys, time
from pathlib import Path
from poise.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_job_with_ranks_is_refused_at_once_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        words = ["model=mlp", "tracking=none", "trainer.devices=2", f"run_dir={path}"]
        assert main(["train", *words]) == 2
        said = f"run_dir={path} is in use: another process is at work there; wait for it, or name another run_dir\n"
        assert capsys.readouterr().err == said
        assert [file.name for file in path.iterdir()] == ["lock"]
        other.kill()
    with RunDirectory(path).held():
        pass
