import shutil
import subprocess
from pathlib import Path

import pytest

from stub_project import LAUNCH, Project, script

SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.sh") if path.name not in ("common.sh", "setup.sh"))
SAYS = {"local.sh": "poise train", "slurm.sh": "poise submit", "torchrun.sh": "torchrun 2"}
AWKWARD = [
    "a=b c",
    "a='b' \"c\"",
    "a=$(touch harm)",
    "a=`touch harm`",
    "a=b;c",
    "a=b\nc",
    "a=*",
    "--dry-run",
    "strategy=deepspeed_zero2",
]


def test_there_is_a_script_for_each_way() -> None:
    assert sorted(SAYS) == SCRIPTS


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    files = [path.name for path in LAUNCH.glob("*.sh")]
    done = subprocess.run(["shellcheck", "-x", *files], cwd=LAUNCH, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_each_makes_the_environment_and_passes_on_what_it_was_given(project: Project) -> None:
    said = []
    for name, says in SAYS.items():
        done = project.run(f"launch/{name}", *AWKWARD, NNODES="2")
        assert (done.returncode, done.stdout) == (0, f"{says} {' '.join(AWKWARD)}\n"), done.stderr
        said.append(done.stderr)
    assert not (project.root / "harm").exists()
    assert "installing poise[deepspeed] and" in said[0]
    assert said[1:] == ["", ""]


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_and_mistakes_need_no_set_up(project: Project, name: str) -> None:
    done = project.run(f"launch/{name}", "recipe=trades", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"launch/{name} path=value …")
    done = project.run(f"launch/{name}", "trades")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "'trades' is not of the form path=value, such as trainer.max_epochs=10.\n"
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_beside_an_installed_poise_each_calls_that(project: Project, tmp_path: Path, name: str) -> None:
    (project.root / "pyproject.toml").unlink()
    programs = tmp_path / "installed"
    script(programs / "poise", 'echo poise "$@"\n')
    script(programs / "python", '[ "$*" = "-m poise.torchrun seed=1" ] && echo torchrun 2 seed=1\n')
    done = project.run(f"launch/{name}", "seed=1", PATH=f"{programs}:{project.environment['PATH']}")
    assert (done.returncode, done.stdout) == (0, f"{SAYS[name]} seed=1\n"), done.stderr
    assert not (project.root / ".venv").exists()
