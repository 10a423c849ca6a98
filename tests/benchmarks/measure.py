"""Times of training steps, compared as ratios of programs that take turns in one run."""

import ctypes
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

Loader = Any  # has a length and gives batches
Program = Callable[["Meter"], None]

HEADER = """\
| step | over | ratio | min – max | target | ms | ms of the base |
| --- | --- | --- | --- | --- | --- | --- |"""


class Turns:
    """Threads of which one runs at a time, in turn."""

    def __init__(self, names: Iterable[str]) -> None:
        self._order = deque(names)
        self._changed = threading.Condition()

    def wait(self, name: str) -> None:
        """Return when it is this one's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._order[0] == name)

    def pass_on(self) -> None:
        """Give the turn to the next."""
        with self._changed:
            self._order.rotate(-1)
            self._changed.notify_all()

    def leave(self) -> None:
        """Give the turn to the next for good."""
        with self._changed:
            self._order.popleft()
            self._changed.notify_all()


class Meter:
    """Stands between a program and its loader: times its steps and makes it wait for its turns.

    A step goes from one asking for a batch to the next, so fetching is part of it. The first step of a turn, with
    cold caches, is left out.

    Args:
        name: of the program.
        turns: shared by the programs compared.
        steps: of one turn, 2 or more.
        clock: gives seconds.
    """

    def __init__(self, name: str, turns: Turns, steps: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.name, self.turns, self.steps, self.clock = name, turns, steps, clock
        self.seconds: list[float] = []

    def over(self, loader: Loader) -> "Meter":
        """The loader's batches, metered; a turn counts when the batch after it is asked for."""
        self._loader = loader
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        begun = 0.0
        for number, batch in zip(range(len(self)), self._loader, strict=False):  # some loaders never end
            yield batch
            step = number % self.steps + 1
            if step == 1:
                begun = self.clock()
            if step == self.steps:
                self.seconds.append((self.clock() - begun) / (self.steps - 1))
                self.turns.pass_on()
                self.turns.wait(self.name)


def clock_of(device: str) -> Callable[[], float]:
    """Seconds of the processor; where a GPU works, those on the wall until it has done what it was given."""
    return time.process_time if device == "cpu" else _when_done


def _when_done() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Ratio:
    """How long one program's step takes, in steps of another.

    Args:
        name: of the step.
        over: of what it is compared with.
        times: seconds of a step, one for each turn.
        base: the same of what it is compared with.
        target: the ratio not to be exceeded; None where none was set.
    """

    name: str
    over: str
    times: list[float]
    base: list[float]
    target: float | None = None

    def row(self) -> str:
        """One line of the table: the median of the ratios of neighbouring turns, and their range."""
        ratios = [mine / base for mine, base in zip(self.times, self.base, strict=True)]
        target = "" if self.target is None else f"{self.target:.2f}"
        cells = (
            self.name,
            self.over,
            f"{median(ratios):.3f}",
            f"{min(ratios):.2f} – {max(ratios):.2f}",
            target,
            f"{1e3 * median(self.times):.2f}",
            f"{1e3 * median(self.base):.2f}",
        )
        return f"| {' | '.join(cells)} |"


def interleave(
    programs: Mapping[str, Program], steps: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of a step of each program, for each of its turns but the first, taken A B A B ….

    Args:
        programs: each trains over `meter.over(loader)`.
        steps: of one turn.
        clock: gives seconds; `time.process_time` those of the processor, whatever else the machine does.
    """
    turns = Turns(programs)
    meters = {name: Meter(name, turns, steps, clock) for name in programs}

    def run(name: str) -> None:
        turns.wait(name)
        try:
            programs[name](meters[name])
        finally:
            turns.leave()

    with ThreadPoolExecutor(len(programs)) as threads:
        for done in [threads.submit(run, name) for name in programs]:
            done.result()
    return {name: meter.seconds[1:] for name, meter in meters.items()}


def share_one_heap() -> None:
    """All threads allocate alike: heaps of their own, growing and shrinking, made a program 7 % slower than itself."""
    with suppress(OSError, AttributeError):  # glibc's
        allocator = ctypes.CDLL(None)
        for option, value in ((-8, 1), (-3, 2**25), (-1, 2**31 - 1)):  # arenas, mmap from, trim from
            allocator.mallopt(option, value)
