"""What runs on a machine of the tests' does not outlive it, and it does not outlive the tests."""

import os
import subprocess
import sys
import time
from pathlib import Path

from cluster.machine import Machine

DAEMON = ("bash", "-c", "(setsid sleep 600 & echo $!); echo $$; exec sleep 600")  # the first of the two is nobody's
OWNER = f"""
import os, pathlib, sys, time
from cluster.machine import Machine

Machine({DAEMON!r}, os.environ, pathlib.Path(sys.argv[1]))
time.sleep(600)
"""


def started(log: Path) -> list[int]:
    """The daemon and what it has left behind, once both are there."""
    deadline = time.monotonic() + 30
    while len(found := log.read_text().split() if log.exists() else []) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(number) for number in found]


def live(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_all_that_has_come_of_a_daemon_ends_with_its_machine(tmp_path: Path) -> None:
    machine = Machine(DAEMON, os.environ, tmp_path / "log")
    processes = started(tmp_path / "log")
    assert all(map(live, processes))
    machine.kill()
    assert not any(map(live, processes))


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path / "log"], stderr=subprocess.DEVNULL)
    processes = started(tmp_path / "log")
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 30
    while any(map(live, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
