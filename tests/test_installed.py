"""The wheel, in an environment of its own beside torchtune (which ships a package `recipes`), far from the checkout."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import poise
from poise.config import presets

ROOT = Path(__file__).parents[1]
SMALL = [
    "recipe=trades,mixup",
    "recipe.pgd.steps=1",
    "trainer.max_epochs=1",
    "trainer.progress=false",
    "evaluation=clean",
    "run_dir=done",
]


def pip(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """This environment's pip, quietly."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel, and with what poise needs by a path to this one's packages."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    base = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([base, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    python = venv / "bin" / "python"
    done = pip("--python", python, "install", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    (packages,) = venv.glob("lib/python3*/site-packages")
    # A path alone: the .pth files over there, one of which leads to the checkout, are not read.
    (packages / "what_poise_needs.pth").write_text(sysconfig.get_path("purelib"))
    return venv / "bin"


@pytest.fixture(scope="module")
def beside_torchtune(installed: Path) -> Path:
    done = pip("--python", installed / "python", "install", "--no-deps", "--retries=0", "--timeout=20", "torchtune")
    if done.returncode:
        pytest.skip("no package index has torchtune")
    return installed


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory with folders of the checkout's names, and other things in them."""
    for name in ("framework/__init__.py", "framework/poise/__init__.py", "recipes/__init__.py", "launch/local.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('somebody else is here')\n")
    for name in (
        "recipes/poise_recipes/adversarial/trades.py",
        "configs/trades_cifar10.yaml",
        "configs/somebodys.yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("somebody: else\n")
    return tmp_path


def run(program: Path, *arguments: str, cwd: Path) -> str:
    """What a program of the environment prints, started in a directory."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    done = subprocess.run(
        [str(program), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_wheel_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        executable = {info.filename for info in archive.infolist() if info.external_attr >> 16 & 0o100}
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"poise", "poise_recipes"}
    kept = [path for folder in ("framework", "recipes") for path in sorted((ROOT / folder).rglob("*"))]
    for path in kept:
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
            assert path.relative_to(ROOT).as_posix().partition("/")[2] in names
    for folder in ("configs", "launch"):
        for path in (ROOT / folder).rglob("*"):
            assert path.is_dir() or f"poise/data_files/{path.relative_to(ROOT).as_posix()}" in names
    assert {"poise/data_files/launch/local.sh", "poise/data_files/launch/setup.sh"} <= executable
    assert not [name for name in names if "test" in name.lower() or name.endswith((".pyc", ".db"))]


def test_the_command_from_any_directory(beside_torchtune: Path, elsewhere: Path) -> None:
    names = ("poise", "poise_recipes", "recipes")  # recipes is torchtune's, which fails when it is imported
    where = f"from importlib.util import find_spec; print(*(find_spec(name).origin for name in {names}))"
    for path in run(beside_torchtune / "python", "-P", "-c", where, cwd=elsewhere).split():
        assert path.startswith(str(beside_torchtune.parent))
    command = beside_torchtune / "poise"
    assert run(command, "--version", cwd=elsewhere) == f"poise {poise.__version__}\n"
    assert run(command, "help", "train", cwd=elsewhere).startswith("poise train path=value")
    assert "poise_recipes.adversarial.trades:Trades" in run(command, "list", "trades", cwd=elsewhere)
    shown = run(command, "list", "presets", cwd=elsewhere)
    assert [line.split()[0] for line in shown.splitlines()[1:]] == presets.names()
    shown = run(command, "list", cwd=elsewhere)
    assert "group_dro" in shown
    assert "somebodys" not in shown
    assert "complete -F _poise poise" in run(command, "completion", "bash", cwd=elsewhere)
    config = run(command, "train", "--print-config", "recipe=trades_cifar10", cwd=elsewhere)
    assert "preset trades_cifar10" in config


def test_a_run_without_tracking(beside_torchtune: Path, elsewhere: Path) -> None:
    before = {path.name for path in elsewhere.iterdir()}
    assert "accuracy" in run(beside_torchtune / "poise", "train", *SMALL, "tracking=none", cwd=elsewhere)
    assert {path.name for path in elsewhere.iterdir()} == before | {"done"}
    code = "import poise, torch; print(*poise.Predictor.load('done')(torch.rand(4, 1, 8, 8)).shape)"
    assert run(beside_torchtune / "python", "-P", "-c", code, cwd=elsewhere) == "4 10\n"


def test_a_tracked_run_as_ranks_are_started(installed: Path, elsewhere: Path) -> None:
    assert "accuracy" in run(installed / "python", "-m", "poise", "train", *SMALL, cwd=elsewhere)
    assert (elsewhere / "mlflow.db").is_file()


def test_the_launch_scripts_that_come_with_it(installed: Path, elsewhere: Path) -> None:
    (launch,) = installed.parent.glob("lib/python3*/site-packages/poise/data_files/launch")
    environment = os.environ | {"PATH": f"{installed}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)

    def call(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            words, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    for name in ("local.sh", "slurm.sh", "torchrun.sh"):
        done = call(str(launch / name), "recipe=tradse")
        assert (done.returncode, "Did you mean 'trades'?" in done.stderr) == (2, True)
    done = call(str(launch / "setup.sh"))
    assert (done.returncode, "is no checkout of poise" in done.stderr) == (1, True)
