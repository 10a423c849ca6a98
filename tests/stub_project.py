"""A project of stubs that `launch/` sets up without an index: what it installs is built by a backend beside it."""

import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

LAUNCH = Path(__file__).parents[1] / "launch"
TOOLS = ("bash", "cat", "cksum", "cut", "dirname", "env", "flock", "grep", "head", "id", "readlink", "rm", "sed", "sh")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "poise"
version = "0.1.0"
"""

# Builds an editable wheel that puts src/ on the path and makes the command; waits meanwhile for as long as a file
# called `wait` is there, so that a set-up can be cut off in the middle of pip's work.
BACKEND = """
import time, zipfile
from pathlib import Path

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    Path("building").touch()
    while Path("wait").exists():
        time.sleep(0.02)
    info = "poise-0.1.0.dist-info"
    files = {
        "stub_poise.pth": str(Path("src").absolute()),
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: poise\\nVersion: 0.1.0\\n"
        "Provides-Extra: dev\\nProvides-Extra: deepspeed\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: stub\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": "[console_scripts]\\npoise = poise:main\\n",
    }
    record = "".join(f"{name},,\\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(Path(wheel_directory) / "poise-0.1.0-py3-none-any.whl", "w") as wheel:
        for name, text in [*files.items(), (f"{info}/RECORD", record)]:
            wheel.writestr(name, text)
    return "poise-0.1.0-py3-none-any.whl"
"""

POISE = """
import sys

def main():
    print("poise", *sys.argv[1:])
"""

TORCHRUN = """
import os, sys

print("torchrun", os.environ.get("NNODES"), *sys.argv[1:])
"""


@dataclass
class Project:
    """A checkout with stubs in the place of poise, PyTorch and Lightning."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> Path:
        """Of its environment."""
        return self.root / ".venv" / "bin" / "python"

    def start(self, *command: str, cwd: Path | None = None, **environment: str) -> "subprocess.Popen[str]":
        """A launch script, in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=cwd or self.root,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
        """A launch script, to its end."""
        with self.start(*command, cwd=cwd, **environment) as process:
            output, error = process.communicate(timeout=120)
        return subprocess.CompletedProcess(command, process.returncode, output, error)


def tools(folder: Path, *without: str) -> Path:
    """A directory with links to what the scripts call of a system, and nothing else."""
    folder.mkdir(parents=True)
    for name in TOOLS:
        found = shutil.which(name)
        if found and name not in without:
            (folder / name).symlink_to(found)
    return folder


def script(path: Path, text: str) -> Path:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{textwrap.dedent(text)}")
    path.chmod(0o755)
    return path


def make_project(tmp_path: Path) -> Project:
    """One that has never been set up, on a system with little more than a Python (no git)."""
    root = tmp_path / "check out"
    shutil.copytree(LAUNCH, root / "launch")
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "backend.py": BACKEND,
        "src/poise/__init__.py": POISE,
        "src/poise/torchrun.py": TORCHRUN,
        "src/torch.py": "",
        "src/lightning.py": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    system = tools(tmp_path / "system")
    (system / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")}
    return Project(root, {**kept, "PATH": str(system), "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
