"""A run that is asked to stop: by Ctrl-C, a closed terminal, a cluster that wants its machines, the end of its time."""

import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poise.distributed import Ranks

AGAIN = 75  # exit code: stopped, to be taken up again; what sysexits.h calls a temporary failure
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: AGAIN}
PAUSE = 2.0  # seconds between two times that ranks ask each other
APART = 256  # steps between them, at most

ONCE_MORE = "\nStopping after this step, with a checkpoint. Ctrl-C once more ends at once.\n"


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and has.

    Args:
        number: of the signal.
        told: what to say of it; nothing where somebody has said it.
    """

    def __init__(self, number: int, told: str = "") -> None:
        super().__init__(told)
        self.number = number

    @property
    def code(self) -> int:
        """Exit code of the process."""
        return CODES[signal.Signals(self.number)]


class Requests:
    """Signals that ask a run to stop; inside the context, those of this process.

    Where the run is patient the first is kept until the run stops by itself; a Ctrl-C after it, and any signal
    elsewhere, raises at once. One that is ignored, as nohup and a script's background have it, stays so.

    Args:
        told: whether the terminal is told that the run will stop.
    """

    def __init__(self, told: bool) -> None:
        self.told = told
        self.asked = 0  # number of the first signal that was kept
        self._patient = False
        self._before: dict[int, Any] = {}
        self._held = False

    def __enter__(self) -> "Requests":
        if threading.current_thread() is threading.main_thread():  # no other may ask for signals
            self._held = signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            self._before = {number: signal.signal(number, self._receive) for number in heeded(CODES)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held:  # what comes after the report is no reason to fail
            hold_requests()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Keep the first request meanwhile, for the run to look at; where it has not, stop in the end.

        A run that fails stays patient, so that what it failed of is said.

        Raises:
            Stopped: in the end.
        """
        self._patient = True
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        yield
        self._patient = False
        if self.asked:
            raise Stopped(self.asked)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        if not self._patient:
            raise Stopped(number)
        if self.asked:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.asked = number
        if self.told and number == signal.SIGINT:
            os.write(2, ONCE_MORE.encode())  # a print may be under way, which cannot be begun twice


def heeded(numbers: Iterable[int]) -> list[int]:
    """Those of some signals that this process was not started to ignore."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def hold_requests() -> None:
    """Keep a SIGUSR1 that comes before training is patient, or after a run: it would end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])


def leave_terminal() -> None:
    """Say nothing more to a terminal that is gone: a write to it would fail, and the checkpoint with it."""
    for stream in (1, 2):
        look = select.poll()
        look.register(stream, 0)
        if any(found & select.POLLHUP for _, found in look.poll(0)):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


class Agreement:
    """Whether one of the ranks was asked to stop: all of them come to know it after the same step.

    Alone a process knows at once. Several ask each other every few seconds, for that takes a collective; how many
    steps that is they agree on as well.

    Args:
        requests: of this process.
    """

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self._due = 0
        self._before: tuple[int, float] | None = None  # step and time at which ranks asked each other last

    def after(self, step: int, ranks: "Ranks") -> int:
        """The number of the signal, 0 if there is none; to be called on all ranks after each optimiser step."""
        if ranks.size == 1:
            return self.requests.asked
        return self.now(step, ranks) if step >= self._due else 0

    def now(self, step: int, ranks: "Ranks") -> int:
        """As `after`, whatever the time is."""
        import torch

        now = time.monotonic()
        pace = PAUSE  # seconds a step, as long as none was seen: a run may be taken up at any
        if self._before is not None and step > self._before[0]:
            pace = (now - self._before[1]) / (step - self._before[0])
        number, pace = ranks.max(torch.tensor([self.requests.asked, pace], dtype=torch.float64)).tolist()
        self._due = step + min(max(int(PAUSE / max(pace, 1e-9)), 1), APART)
        self._before = step, now
        return int(number)
