"""A pair of rank processes that stays alive while many tests run their functions in it.

Run as a program, this file is one of the processes; imported, it is the tests' side.
"""

import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import ModuleType
from typing import Any

SIZE = 2
GRACE = 10.0  # seconds that the other rank gets once one has failed: it may be waiting for it in a collective
TAIL = 8_000  # characters of a rank's output that an error shows


class RankError(AssertionError):
    """A function failed in a rank process; the text is that rank's traceback."""


class Pair:
    """Runs a function of a test file in every rank process and returns what each gave back.

    The function must stand at the top level of its file, which the ranks import by its path; arguments and
    results are pickled, so they are plain values, tensors or objects of importable modules. In the ranks the
    process group is ready (gloo), and the environment is the one of torch's elastic launcher, so that
    `L.Trainer(devices=2, accelerator="cpu")` takes them for its own. A failure or a time-out ends both
    processes; the next call starts new ones.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="poise-ranks-")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pipes: list[Connection] = []
        self._starts = 0

    def __enter__(self) -> "Pair":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._folder.cleanup()

    def run(self, function: Callable[..., Any], *args: Any, timeout: float = 120.0, **kwargs: Any) -> list[Any]:
        """The results of `function(*args, **kwargs)`, one a rank.

        Raises:
            RankError: a rank raised, died or was not done after `timeout` seconds (start-up not counted).
        """
        if not self._processes:
            self._start()
        task = pickle.dumps((function.__code__.co_filename, function.__qualname__, args, kwargs))
        for pipe in self._pipes:
            pipe.send_bytes(task)
        answers = self._answers(timeout)
        failed = {rank: text for rank, (good, text) in answers.items() if not good}
        if not failed and len(answers) == SIZE:
            return [answers[rank][1] for rank in range(SIZE)]
        raise RankError(self._failure(function.__qualname__, failed, answers, timeout))

    def _start(self) -> None:
        self._starts += 1
        for rank in range(SIZE):
            ours, theirs = Pipe()
            with open(self._log(rank), "wb") as log, theirs:
                command = [sys.executable, __file__, str(theirs.fileno()), self._rendezvous()]
                process = subprocess.Popen(
                    command, env=rank_environment(rank), pass_fds=[theirs.fileno()], stdout=log, stderr=log
                )
            self._processes.append(process)
            self._pipes.append(ours)
        ready = self._answers(timeout=120.0)
        if len(ready) != SIZE:
            raise RankError(self._failure("start", {}, ready, 120.0))

    def _answers(self, timeout: float) -> dict[int, tuple[bool, Any]]:
        answers: dict[int, tuple[bool, Any]] = {}
        deadline = time.monotonic() + timeout
        waiting = dict(zip(self._pipes, range(SIZE), strict=True))
        while waiting and (left := deadline - time.monotonic()) > 0:
            for pipe in wait(list(waiting), timeout=left):
                rank = waiting.pop(pipe)  # type: ignore[call-overload]
                try:
                    answers[rank] = pickle.loads(pipe.recv_bytes())  # type: ignore[union-attr]
                except EOFError:
                    answers[rank] = (False, f"the process died (exit code {self._processes[rank].wait()})")
                if not answers[rank][0]:
                    deadline = min(deadline, time.monotonic() + GRACE)
        return answers

    def _failure(self, name: str, failed: dict[int, str], answers: dict[int, Any], timeout: float) -> str:
        silent = [rank for rank in range(SIZE) if rank not in answers]
        for rank in silent:  # faulthandler writes where it hangs
            self._processes[rank].send_signal(signal.SIGUSR1)
        if silent:
            time.sleep(0.5)
        self._stop()
        parts = [f"{name} failed in the rank processes"]
        parts += [f"rank {rank}: {text}" for rank, text in failed.items()]
        parts += [f"rank {rank}: gave no answer ({timeout:g} s)" for rank in silent]
        parts += [f"output of rank {rank}:\n{self._output(rank)}" for rank in sorted({*failed, *silent})]
        return "\n\n".join(parts)

    def _stop(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes, self._pipes = [], []

    def _rendezvous(self) -> str:
        return f"file://{self._folder.name}/rendezvous-{self._starts}"

    def _log(self, rank: int) -> Path:
        return Path(self._folder.name, f"rank-{rank}-{self._starts}.log")

    def _output(self, rank: int) -> str:
        return self._log(rank).read_text(errors="replace")[-TAIL:]


def rank_environment(rank: int, size: int = SIZE) -> dict[str, str]:
    """The environment that torch's elastic launcher would give rank `rank` of `size` on one node."""
    own = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",  # nobody connects to it: the group is there before anyone asks
        "TORCHELASTIC_RUN_ID": "tests",
        "OMP_NUM_THREADS": "1",
    }
    return {**os.environ, **own}


def serve(pipe: Connection, rendezvous: str) -> None:
    """The life of a rank process: join the group, then run what comes through the pipe until it closes."""
    import faulthandler
    from datetime import timedelta

    import lightning  # noqa: F401  (imported once, for all the tests)
    import torch.distributed

    faulthandler.register(signal.SIGUSR1, all_threads=True)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group(
        "gloo", init_method=rendezvous, rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    pipe.send_bytes(pickle.dumps((True, "ready")))
    modules: dict[str, ModuleType] = {}
    while True:
        try:
            task = pipe.recv_bytes()
        except EOFError:
            os._exit(0)  # the tests are over, or gone: nothing here is worth a clean shutdown
        pipe.send_bytes(_attempt(modules, task))


def _attempt(modules: dict[str, ModuleType], task: bytes) -> bytes:
    try:
        file, name, args, kwargs = pickle.loads(task)
        if file not in modules:
            modules[file] = _import(file)
        return pickle.dumps((True, getattr(modules[file], name)(*args, **kwargs)))
    except BaseException:
        sys.stdout.flush()
        return pickle.dumps((False, traceback.format_exc()))


def _import(file: str) -> ModuleType:
    name = "in_ranks_" + Path(file).stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickle looks a result's class up there
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), sys.argv[2])
