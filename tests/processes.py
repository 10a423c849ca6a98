"""Commands started for real, found again by a mark in their environment, and seen to end with all they began."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from poise import checkpoint

MARK = "POISE_TEST_MARK"
BOUND_TO = "POISE_TEST_BOUND_TO"  # process with which one that it started ends, whatever ends it
START = 120.0  # seconds to train in: several people work on this machine
SLEEP = 0.05


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: as a shell has it.
        said: its lines on both streams.
        seconds: since the fault.
    """

    code: int
    said: list[str]
    seconds: float


class Command:
    """A command in the background.

    Args:
        words: after the interpreter.
        environment: besides the process' own.
        log: file for what it says.
    """

    def __init__(self, words: list[str], log: Path, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        self.log = log
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                env={**clean, "POISE_SHAPE_CHECKS": "0", MARK: self.mark, **bound(), **environment},
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                start_new_session=True,
            )

    def rank(self, number: int) -> int:
        """The process of a rank."""
        (found,) = (pid for pid, known in self._processes().items() if known.get("RANK") == str(number))
        return found

    def ended(self, within: float = 60.0) -> Ended:
        """Wait for the end of the command; nothing of it is left then."""
        began = time.monotonic()
        try:
            code = self.process.wait(within)
        finally:
            took = time.monotonic() - began
            left = self._left()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        assert left == [], f"{len(left)} processes are left"
        return Ended(code if code >= 0 else 128 - code, self.log.read_text(errors="replace").splitlines(), took)

    def until(self, condition: Callable[[], object], seconds: float = START) -> None:
        """Wait for something that the command brings about."""
        deadline = time.monotonic() + seconds
        while not condition():
            said = self.log.read_text(errors="replace")
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(SLEEP)

    def _left(self, patience: float = 5.0) -> list[int]:
        deadline = time.monotonic() + patience
        while (left := list(self._processes())) and time.monotonic() < deadline:
            time.sleep(SLEEP)
        return left

    def _processes(self) -> dict[int, dict[str, str]]:
        """The environment of all that carry the mark and are alive, by process."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                pairs = path.read_bytes().decode(errors="replace").split("\0")
                alive = path.with_name("stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue
            environment = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            if alive and environment.get(MARK) == self.mark:
                found[int(path.parent.name)] = environment
        return found


def bound() -> dict[str, str]:
    """What has to stand in the environment of a Python that is to end with this process."""
    return {BOUND_TO: str(os.getpid())}


def step_of(run_dir: Path) -> int:
    """The step of the newest checkpoint that is whole, its checksums verified; 0 without one."""
    kept = checkpoint.newest(run_dir / "checkpoints")
    return int(kept.facts["step"]) if kept else 0


def has_gone_on(run_dir: Path, step: int) -> bool:
    """Whether there is a checkpoint of a later step."""
    return any(int(path.name[5:]) > step for path in (run_dir / "checkpoints").glob("step-" + "[0-9]" * 8))
