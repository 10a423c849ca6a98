"""poise starts its own ranks: one process each, under the environment of torch's elastic launcher.

The ranks' rendezvous is a store that this process holds, so its port cannot be taken by another in between.
Run as a program, this file is the first thing in a rank: it binds the rank's life to the launcher's.
"""

import contextlib
import ctypes
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO

from poise.errors import UserError
from poise.stopping import CODES, heeded, leave_terminal

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FORWARDED = (*ENDING, signal.SIGUSR1, signal.SIGUSR2)
POLL = 0.05
TAIL = 40  # lines of a failed rank's output
PR_SET_PDEATHSIG = 1
LOST = 76  # exit code of a rank that ends because another did; what sysexits.h calls a fault of the other side
MEMORY = "perhaps for memory, as dmesg would say: a smaller trainer.batch_size or fewer trainer.devices need less"
FALLEN = "poise/fallen"  # key in the ranks' store: one of them has failed
WHO = "poise/who"  # key beside it: what they found of one that is lost
OWN_LAUNCHER = "POISE_LAUNCHER"  # in the environment of ranks that poise started: the process that did


class RankLost(RuntimeError):
    """Another rank failed, ended or does not answer.

    Args:
        said: which, and what is known of it.
        code: exit code of the process; LOST where it is not for this one to say so, but for who started the ranks.
    """

    def __init__(self, said: str = "", code: int = 1) -> None:
        super().__init__(said)
        self.code = code


def launch(config_path: Path, devices: int, *, log_dir: Path | None = None, grace: float = 40.0) -> int:
    """Train the composed config in `config_path` on `devices` ranks of this machine.

    Args:
        config_path: passed on to every rank as `config=`.
        devices: number of ranks.
        log_dir: as of run_ranks.
        grace: as of run_ranks.

    Returns:
        The exit code: as of run_ranks.

    Raises:
        RankLost: as of run_ranks.
    """
    return run_ranks("poise", ["train", f"config={config_path}"], devices, log_dir=log_dir, grace=grace)


def under_launcher() -> bool:
    """Whether this process is a rank that somebody started: poise, a Slurm job, or torchrun."""
    return all(name in os.environ for name in ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"))


def speaks() -> bool:
    """Whether it is for this process to say what a run is about to do, and where it ends.

    Of poise's own ranks none does, for the process that started them will; of others' ranks the first.
    """
    return not under_launcher() or (OWN_LAUNCHER not in os.environ and os.environ["RANK"] == "0")


def run_ranks(
    module: str, arguments: Sequence[str], size: int, *, log_dir: Path | None = None, grace: float = 40.0
) -> int:
    """Run `python -m module arguments…` in `size` processes until all are done or one has failed.

    Rank 0 writes to this process' own output, the others to files, the end of which is shown if theirs is the
    first failure. Signals are passed on, but for those that this process was started to ignore, and SIGUSR1 waits
    until a rank takes it; a second Ctrl-C (SIGTERM, SIGHUP) ends all ranks at once. No rank outlives this process,
    however it ends.

    Args:
        module: what `python -m` takes.
        arguments: its command line.
        size: number of ranks.
        log_dir: where the ranks' output is kept; None keeps it where a rank failed, in a temporary folder.
        grace: seconds that the ranks have to end by themselves once one of them has failed.

    Returns:
        0, or the exit code of the rank that failed first; as in a shell 128 + n for signal n, also for one that
        ended all ranks at once.

    Raises:
        RankLost: one does not answer, as the others have found.
    """
    folder = log_dir or Path(tempfile.mkdtemp(prefix="poise-ranks-"))
    folder.mkdir(parents=True, exist_ok=True)
    with _signals() as received, _Ranks(module, arguments, size, folder, grace) as ranks:
        failed = ranks.wait(received)
    if failed is None:
        if log_dir is None:
            shutil.rmtree(folder, ignore_errors=True)
        return 0
    if ranks.cut_short:
        return CODES[signal.Signals(ranks.cut_short)]
    if ranks.who:
        raise RankLost(ranks.who)
    rank, code = failed
    if not ranks.ending and (rank or code > 128):  # rank 0 has said here what it failed of
        _report(rank, code, folder)
    return 1 if code == LOST else code


class _Ranks:
    """The processes; leaving the context kills whatever is left of them."""

    def __init__(self, module: str, arguments: Sequence[str], size: int, folder: Path, grace: float) -> None:
        self.command = [sys.executable, "-m", "poise.launching", str(os.getpid()), module, *arguments]
        self.size, self.folder, self.grace = size, folder, grace
        self.processes: list[subprocess.Popen[bytes]] = []
        self.run_id = uuid.uuid4().hex
        self.ending = False  # somebody asked for it
        self.cut_short = 0  # number of the signal that ended all at once
        self.who = ""  # as the ranks have found, one does not answer
        self.deadline = float("inf")

    def __enter__(self) -> "_Ranks":
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        try:
            with _requests_held():
                for rank in range(self.size):
                    self.processes.append(self._start(rank))
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def wait(self, received: "deque[int]") -> tuple[int, int] | None:
        """The first rank that failed and its exit code, once all have ended; not one that only lost another."""
        failed: tuple[int, int] | None = None
        while True:
            codes = [process.poll() for process in self.processes]
            bad = [(rank, _shell_code(code)) for rank, code in enumerate(codes) if code]
            self.who = self.who or self._who(bad)
            first = next((one for one in bad if one[1] != LOST or self.who or None not in codes), None)
            if failed is None and first:
                failed = first
                self.ending = self.ending or failed[1] in CODES.values()  # it was asked to stop, and they all are
                if not self.ending:
                    self.store.set(FALLEN, "")
                    self._send(signal.SIGTERM)
            if bad or (self.ending and any(code is not None for code in codes)):
                self.deadline = min(self.deadline, time.monotonic() + self.grace)
            if all(code is not None for code in codes):
                return failed
            if time.monotonic() > self.deadline:
                self._kill()
            while received:
                self._receive(received.popleft())
            time.sleep(POLL)

    def _who(self, bad: Sequence[tuple[int, int]]) -> str:
        """What a rank that has ended with LOST left word of."""
        found = any(code == LOST for _, code in bad) and self.store.check([WHO])
        return str(self.store.get(WHO).decode()) if found else ""

    def _start(self, rank: int) -> "subprocess.Popen[bytes]":
        with contextlib.ExitStack() as files:
            log: BinaryIO | None = None
            if rank > 0:
                log = files.enter_context(_log(self.folder, rank).open("wb"))
            return subprocess.Popen(
                self.command,
                env=rank_environment(rank, self.size, self.store.port, self.run_id),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,  # the terminal's Ctrl-C reaches ranks once, through us
            )

    def _receive(self, number: int) -> None:
        if number in ENDING and self.ending:
            self.cut_short = number
            self._kill()
        self.ending = self.ending or number in ENDING
        self._send(number)

    def _send(self, number: int) -> None:
        for process in self.processes:
            process.send_signal(number)  # does nothing where the process has ended
            if number in ENDING:
                process.send_signal(signal.SIGCONT)  # one that is stopped hears nothing

    def _kill(self) -> None:
        """With all that a rank has started: its group outlives it where it did not end well."""
        for process in self.processes:
            if process.poll() != 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def rank_environment(rank: int, size: int, port: int, run_id: str) -> dict[str, str]:
    """The environment of rank `rank` of `size`, as torch's elastic launcher makes it on one machine."""
    own = {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "GROUP_RANK": "0",
        "ROLE_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_WORLD_SIZE": "1",
        "ROLE_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        OWN_LAUNCHER: str(os.getpid()),
    }
    threads = max(1, len(os.sched_getaffinity(0)) // size)
    return {"OMP_NUM_THREADS": str(threads), **on_loopback("127.0.0.1"), **os.environ, **own}


def on_loopback(address: str) -> dict[str, str]:
    """What gloo needs where ranks meet on this machine: it looks up the host's own name, which need not resolve."""
    return {"GLOO_SOCKET_IFNAME": "lo"} if address == "localhost" or address.startswith("127.") else {}


def port(text: str) -> int:
    """The port of MASTER_PORT.

    Raises:
        UserError: it is none.
    """
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise UserError(f"MASTER_PORT={text} is no port, which are 1 to 65535.")
    return int(text)


@contextlib.contextmanager
def _signals() -> Iterator["deque[int]"]:
    """The signals that arrive meanwhile; only a main thread may ask for them."""
    received: deque[int] = deque()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        received.append(number)

    before: dict[int, Any] = {number: signal.signal(number, note) for number in heeded(FORWARDED)}
    held = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    try:
        yield received
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _requests_held() -> Iterator[None]:
    """Have processes started meanwhile hear of a Ctrl-C, and of SIGUSR1, once they can answer it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _report(rank: int, code: int, folder: Path) -> None:
    text = f"rank {rank} {_how(code)}"
    path = _log(folder, rank)
    lines = path.read_text(errors="replace").splitlines()[-TAIL:] if path.exists() else []
    if lines:
        text = "\n".join([f"{text}; the end of {path}:", *lines])
    sys.stderr.write(f"{text}\n")


def _how(code: int) -> str:
    """How a rank has ended, by its exit code as a shell has it."""
    try:
        number = signal.Signals(code - 128)
    except ValueError:
        return f"failed (exit code {code})"
    return f"was ended by {number.name} (exit code {code}){f', {MEMORY}' if number == signal.SIGKILL else ''}"


def _log(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.log"


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _bind_to(launcher: int) -> None:
    """Have the kernel kill this process when the launcher dies, whatever it dies of."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            sys.exit(1)


def leave_group() -> None:
    """Take this rank's process group down: gloo's threads abort, now and then, an interpreter that ends before them."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    _bind_to(int(sys.argv[1]))
    del sys.argv[:2]
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # while it was imported
        sys.exit(130)
    except SystemExit as end:
        if not end.code:  # after a failure others may still be waiting for this rank
            leave_group()
        raise
    leave_group()
