"""A machine of a cluster, of which several run on this one: a daemon and all that comes of it.

Imported, it is the tests' side; run as a program, this file is what the machine hangs on. The daemon's processes stay
its descendants, whatever leaves whom, and it kills them all when its input ends: when the tests say so, or are dead.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


class Machine:
    """One daemon on a machine of its own.

    Args:
        command: the daemon's; it has to stay in the foreground.
        environment: of all that runs there.
        log: file that what it says is appended to.
    """

    def __init__(self, command: tuple[str, ...], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as file:
            self._holder = subprocess.Popen(
                [sys.executable, "-I", __file__, *command],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                start_new_session=True,  # the terminal's Ctrl-C is the tests' alone
            )

    def kill(self) -> None:
        """End everything there at once; others see their connections to it closed."""
        self._holder.communicate()


def descendants(process: int) -> list[int]:
    """All that a process has started, and what they have started."""
    parents = {int(path.name): _parent(path) for path in Path("/proc").glob("[0-9]*")}
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _parent(path: Path) -> int:
    """Of a process that still lives; -1 of one that has ended."""
    try:
        state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return -1
    return -1 if state == "Z" else int(parent)


def hold(command: list[str]) -> None:
    """Run a command until the input ends; then kill all that has come of it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody else reaps what a daemon leaves behind
    sys.stdin.read()
    while left := descendants(os.getpid()):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


if __name__ == "__main__":
    hold(sys.argv[1:])
