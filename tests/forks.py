"""A process that has imported everything and forks itself, so that a function gets a process of its own at once."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from ranks import rank_environment

POLL = 0.002
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
        code: 0 where the function returned, 1 where it raised, -9 where the process was killed.
        value: what the function gave back, or its traceback.
    """

    code: int
    value: Any = None


class Forks:
    """Calls functions, each in a process forked from one that is warm and has a single thread.

    A function must stand at the top level of a module beside this one. Shapes are not checked there, which would
    take most of the time.

    Args:
        warm: called once in the process that forks: it imports, and fills caches.
    """

    def __init__(self, warm: Callable[[str], object]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="poise-forks-")
        self._log = Path(self._folder.name, "log")
        self._pipe, theirs = Pipe()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "POISE_SHAPE_CHECKS": "0"}
        with self._log.open("wb") as log, theirs:
            words = [sys.executable, "-m", "forks", str(theirs.fileno()), self._folder.name]
            self._process = subprocess.Popen(words, env=environment, pass_fds=[theirs.fileno()], stdout=log, stderr=log)
        self._pipe.send((warm, (self._folder.name,), ()))
        self._answer(120)

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def ends(
        self, function: Callable[..., Any], *arguments: Any, ranks: int = 1, grace: float = 20.0, timeout: float = 120.0
    ) -> list[End]:
        """How the processes that call `function(*arguments)` end, one a rank; with several, gloo joins them.

        Args:
            function: what each calls.
            arguments: picklable.
            ranks: number of processes.
            grace: seconds that the others have once one has failed; then they are killed.
            timeout: seconds for all of it.
        """
        self._pipe.send((function, arguments, (ranks, grace, timeout)))
        ends: list[End] = self._answer(timeout + 30)
        return ends

    def run(self, function: Callable[..., Any], *arguments: Any, timeout: float = 120.0) -> Any:
        """What `function(*arguments)` gives back in a process of its own; what it raised there is raised here."""
        (end,) = self.ends(function, *arguments, timeout=timeout)
        assert end.code == 0, f"exit code {end.code}: {end.value}\n{self._log.read_text()[-4000:]}"
        return end.value

    def _answer(self, timeout: float) -> Any:
        try:
            assert self._pipe.poll(timeout), "no answer"
            good, value = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise AssertionError(self._log.read_text()[-4000:]) from error
        assert good, value
        return value


def serve(pipe: Connection, folder: Path) -> None:
    """The life of the process that forks: a fork for each call that comes through the pipe, until it closes."""
    while True:
        try:
            function, arguments, how = pipe.recv()
        except EOFError:
            return
        call = partial(function, *arguments)
        try:
            answer = (True, _forked(call, folder, *how) if how else call())
        except BaseException:
            answer = (False, traceback.format_exc())
        pipe.send(answer)


def _forked(call: Callable[[], Any], folder: Path, ranks: int, grace: float, timeout: float) -> list[End]:
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"a fork of {threads} threads has their locks and not them"
    children = {_child(call, folder, rank, ranks): rank for rank in range(ranks)}
    codes: dict[int, int] = {}
    deadline = time.monotonic() + timeout
    while len(codes) < ranks:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in children:
            codes[children[pid]] = os.waitstatus_to_exitcode(status)
            if status:
                deadline = min(deadline, time.monotonic() + grace)
        elif time.monotonic() > deadline:
            for child, rank in children.items():
                if rank not in codes:
                    os.kill(child, signal.SIGKILL)
            deadline = float("inf")
        elif not pid:
            time.sleep(POLL)
    (folder / "rendezvous").unlink(missing_ok=True)
    return [End(codes[rank], _left(folder, rank)) for rank in range(ranks)]


def _child(call: Callable[[], Any], folder: Path, rank: int, ranks: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if ranks > 1:
            _join(folder, rank, ranks)
        code, value = 0, call()
    except BaseException:
        code, value = 1, traceback.format_exc()
    (folder / f"value-{rank}").write_bytes(pickle.dumps(value))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _join(folder: Path, rank: int, ranks: int) -> None:
    from datetime import timedelta

    import torch.distributed

    os.environ.update(rank_environment(rank, ranks))
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
    )


def _left(folder: Path, rank: int) -> Any:
    path = folder / f"value-{rank}"
    if not path.exists():
        return None
    value = pickle.loads(path.read_bytes())
    path.unlink()
    return value


if __name__ == "__main__":
    import forks  # what it sends is of this module, not of __main__

    forks.serve(Connection(int(sys.argv[1])), Path(sys.argv[2]))
