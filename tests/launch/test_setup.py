import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stub_project import Project, script, tools

PYTHON = getattr(sys, "_base_executable", sys.executable)


def until(path: Path, process: "subprocess.Popen[str]") -> None:
    """Wait for a file."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def cut_off(process: "subprocess.Popen[str]") -> None:
    """As a power cut would: all its processes at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def test_the_first_call_sets_up_and_the_second_does_nothing(project: Project) -> None:
    done = project.run("launch/local.sh", "recipe=trades", "seed=1")
    assert (done.returncode, done.stdout) == (0, "poise train recipe=trades seed=1\n"), done.stderr
    assert [line.partition(" with")[0] for line in done.stderr.splitlines()] == [
        f"poise: making {project.root}/.venv",
        "poise: installing poise and what it needs (once, minutes; PyTorch is large)",
    ]
    again = project.run("launch/local.sh", "recipe=trades")
    assert (again.returncode, again.stdout, again.stderr) == (0, "poise train recipe=trades\n", "")


def test_it_is_found_from_anywhere_and_through_links(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "first").symlink_to(project.root / "launch" / "local.sh")
    (elsewhere / "second").symlink_to("first")
    project.run("launch/setup.sh")
    for command in (f"{project.root}/launch/local.sh", "./first", str(elsewhere / "second")):
        done = project.run(command, "seed=1", cwd=elsewhere)
        assert (done.returncode, done.stdout, done.stderr) == (0, "poise train seed=1\n", "")


def test_cut_off_while_pip_installs(project: Project) -> None:
    (project.root / "wait").touch()
    process = project.start("launch/setup.sh")
    until(project.root / "building", process)
    cut_off(process)
    (project.root / "wait").unlink()
    done = project.run("launch/local.sh", "seed=1")
    assert (done.returncode, done.stdout) == (0, "poise train seed=1\n"), done.stderr
    assert "making" not in done.stderr  # what was there could be mended


def test_cut_off_while_the_environment_is_made(project: Project) -> None:
    process = project.start("launch/setup.sh")
    until(project.python, process)
    cut_off(process)
    assert not (project.root / ".venv" / "bin" / "pip").exists()
    done = project.run("launch/local.sh", "seed=1")
    assert (done.returncode, done.stdout) == (0, "poise train seed=1\n"), done.stderr


def test_ctrl_c_says_that_the_same_command_goes_on(project: Project) -> None:
    (project.root / "wait").touch()
    process = project.start("launch/local.sh", "seed=1")
    until(project.root / "building", process)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.endswith("poise: interrupted; the same command goes on\n")
    assert "failed" not in error


@pytest.mark.parametrize("left", ["nothing in it", "no python", "a package without its record"])
def test_what_else_a_cut_may_leave(project: Project, left: str) -> None:
    venv = project.root / ".venv"
    if left == "nothing in it":
        venv.mkdir()
    else:
        project.run("launch/setup.sh")
        (venv / "poise-setup").unlink()
    if left == "no python":
        project.python.unlink()
    if left == "a package without its record":
        (packages,) = venv.glob("lib/python3*/site-packages")
        (packages / "half-1.0.dist-info").mkdir()
    done = project.run("launch/local.sh", "seed=1")
    assert (done.returncode, done.stdout) == (0, "poise train seed=1\n"), done.stderr
    assert f"making {venv}" in done.stderr
    assert "cannot be mended" not in done.stderr


def test_an_environment_that_no_longer_imports_is_made_anew(project: Project) -> None:
    project.run("launch/setup.sh")
    (project.root / ".venv" / "poise-setup").unlink()
    (packages,) = project.root.glob(".venv/lib/python3*/site-packages")
    (packages / "lightning.py").write_text("import nowhere")
    (packages / "aaa.pth").write_text(str(packages))  # stands before the stubs
    done = project.run("launch/local.sh", "seed=1")
    assert (done.returncode, done.stdout) == (0, "poise train seed=1\n"), done.stderr
    assert "cannot be mended: once more from nothing" in done.stderr


@pytest.mark.parametrize("copied", [False, True])
def test_a_checkout_that_was_moved_or_copied(project: Project, tmp_path: Path, copied: bool) -> None:
    project.run("launch/setup.sh")
    moved = tmp_path / "moved"
    if copied:
        shutil.copytree(project.root, moved, symlinks=True)
        before = (project.root / ".venv" / "bin" / "poise").read_bytes()
    else:
        project.root.rename(moved)
    done = project.run("launch/local.sh", "seed=1", cwd=moved)
    assert (done.returncode, done.stdout) == (0, "poise train seed=1\n"), done.stderr
    for name in ("pip", "poise"):
        assert str(moved) in (moved / ".venv" / "bin" / name).read_text()
    if copied:
        assert (project.root / ".venv" / "bin" / "poise").read_bytes() == before


def test_extras_hold_what_they_include_and_deepspeed_comes_when_it_is_asked_for(project: Project) -> None:
    assert "installing poise and" in project.run("launch/local.sh", "seed=1").stderr
    assert "installing poise[deepspeed] and" in project.run("launch/local.sh", "strategy=deepspeed_zero1").stderr
    assert not project.run("launch/local.sh", "seed=1").stderr
    assert "installing poise[dev] and" in project.run("launch/setup.sh", "dev").stderr
    assert not project.run("launch/local.sh", "strategy=deepspeed_zero1").stderr
    with (project.root / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert "installing poise and" in project.run("launch/setup.sh").stderr
    assert not project.run("launch/setup.sh").stderr


def test_two_at_once_make_it_once(project: Project) -> None:
    (project.root / "wait").touch()
    first = project.start("launch/local.sh", "seed=1")
    until(project.root / "building", first)
    second = project.start("launch/local.sh", "seed=2")
    time.sleep(0.3)
    (project.root / "wait").unlink()
    for process, seed in ((first, 1), (second, 2)):
        output, error = process.communicate(timeout=60)
        assert (process.returncode, output) == (0, f"poise train seed={seed}\n"), error
    assert error == "poise: another set-up is at work here: waiting for it\n"


def test_a_set_up_that_fails_is_said(project: Project) -> None:
    (project.root / "backend.py").write_text("def build_editable(*_): raise RuntimeError('no such wheel')\n")
    done = project.run("launch/local.sh", "seed=1")
    assert done.returncode == 1
    assert "no such wheel" in done.stderr
    assert done.stderr.endswith("poise: the set-up failed; what pip said stands above\n")


def system(project: Project, folder: Path, managers: list[str], python: str = "") -> None:
    """Another system: these package managers, this Python (a script, else none), and a user who is not root."""
    path = tools(folder, "id")
    script(path / "id", "echo 1000\n")
    for name in managers:
        script(path / name, "echo called >&2; exit 1\n")
    if python:
        script(path / "python3", python)
    project.environment["PATH"] = str(path)


NO_PYTHON = "poise: no Python 3.11 or newer is installed. "
BY_NAME = "Or name a Python 3.11 or newer that has venv and pip: PYTHON=/path/to/python3 {script}\n"


@pytest.mark.parametrize(
    ("managers", "command"),
    [
        (["apt-get"], "Install it: sudo apt-get install python3 python3-venv. "),
        (["dnf"], "Install it: sudo dnf install python3.12. "),
        (["zypper"], "Install it: sudo zypper install python312. "),
        (["pacman"], "Install it: sudo pacman -S python. "),
        (["apk"], "Install it: sudo apk add python3. "),
        (["brew"], "Install it: brew install python. "),
        ([], ""),
    ],
)
@pytest.mark.parametrize("python", ["", "exit 1\n"], ids=["none", "too old"])
def test_a_missing_python_is_named_with_what_brings_it(
    project: Project, tmp_path: Path, managers: list[str], command: str, python: str
) -> None:
    system(project, tmp_path / "other", managers, python)
    done = project.run("launch/local.sh", "seed=1")
    assert done.returncode == 1
    assert done.stderr == f"{NO_PYTHON}{command}{BY_NAME.format(script=project.root / 'launch/setup.sh')}"
    assert not (project.root / ".venv").exists()


def test_a_missing_venv_is_named_with_what_brings_it(project: Project, tmp_path: Path) -> None:
    python = f'case "$*" in *ensurepip*) exit 1 ;; esac\nexec {PYTHON} "$@"\n'
    system(project, tmp_path / "other", ["apt-get"], python)
    done = project.run("launch/local.sh", "seed=1")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.returncode == 1
    assert f"{tmp_path}/other/python3 has no venv or no pip. " in done.stderr
    assert f"Install it: sudo apt-get install python{version}-venv. " in done.stderr


def test_root_has_it_installed_on_debian(project: Project, tmp_path: Path) -> None:
    """The package manager is a stub that brings a python3 when it is asked to."""
    path = tools(tmp_path / "other", "id")
    script(path / "id", "echo 0\n")
    (path / "ln").symlink_to(shutil.which("ln") or "/bin/ln")
    script(path / "apt-get", f'echo "$*" >>{tmp_path}/asked\n[ "$1" = update ] || ln -sf {PYTHON} {path}/python3\n')
    project.environment["PATH"] = str(path)
    done = project.run("launch/local.sh", "seed=1")
    assert (done.returncode, done.stdout) == (0, "poise train seed=1\n"), done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["update -qq", "install -y -qq --no-install-recommends python3 python3-venv"]


def test_a_python_of_ones_own(project: Project, tmp_path: Path) -> None:
    system(project, tmp_path / "other", ["apt-get"])
    done = project.run("launch/local.sh", "seed=1", PYTHON=PYTHON)
    assert (done.returncode, done.stdout) == (0, "poise train seed=1\n"), done.stderr
    shutil.rmtree(project.root / ".venv")
    done = project.run("launch/local.sh", "seed=1", PYTHON="/nowhere/python3")
    assert (done.returncode, done.stderr) == (1, "poise: PYTHON=/nowhere/python3 is not a Python 3.11 or newer\n")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["recipe=trades", "--help"]])
def test_help_needs_no_set_up(project: Project, words: list[str]) -> None:
    done = project.run("launch/local.sh", *words)
    assert done.returncode == 0
    assert done.stdout.startswith("launch/local.sh path=value …")
    assert not done.stderr
    assert not (project.root / ".venv").exists()


@pytest.mark.parametrize("word", ["trades", "=x", "recipe"])
def test_what_is_no_argument_is_said_before_the_set_up(project: Project, word: str) -> None:
    done = project.run("launch/local.sh", "seed=1", word)
    assert done.returncode == 2
    assert done.stderr == f"'{word}' is not of the form path=value, such as trainer.max_epochs=10.\n"
    assert not (project.root / ".venv").exists()


def test_help_of_setup_and_an_extra_that_is_none(project: Project) -> None:
    assert project.run("launch/setup.sh", "--help").stdout.startswith("Make poise's environment in .venv")
    done = project.run("launch/setup.sh", "deepsped")
    assert (done.returncode, done.stderr) == (2, "poise: there is no extra 'deepsped': deepspeed or dev\n")
