"""Times of training steps, compared as ratios of interleaved repetitions."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

Clock = Literal["wall", "cpu"]
CLOCKS: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Stamped:
    """A loader that notes when each batch is asked for: from one to the next is one whole step, fetch included."""

    def __init__(self, loader: Iterable[Any], clock: Clock) -> None:
        self.loader, self.now = loader, CLOCKS[clock]
        self.asked: list[float] = []

    def __len__(self) -> int:
        if not isinstance(self.loader, Sized):
            raise TypeError("this loader does not tell its length")
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            self.asked.append(self.now())
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch

    def step(self, warm_up: int) -> float:
        """Median seconds of a step, the first ones left out."""
        times = [end - begin for begin, end in zip(self.asked, self.asked[1:], strict=False)]
        return median(times[warm_up:])


@dataclass(frozen=True)
class Ratio:
    """How long one program's step takes, in steps of another."""

    name: str
    times: list[float]
    base: list[float]
    target: float | None

    def row(self) -> str:
        """One line of the table."""
        paired = [a / b for a, b in zip(self.times, self.base, strict=True)]
        target = "" if self.target is None else f"{self.target:.2f}"
        spread = f"{min(paired):.3f} – {max(paired):.3f}"
        return (
            f"| {self.name} | {median(paired):.3f} | {spread} | {target} "
            f"| {1e3 * median(self.times):.2f} | {1e3 * median(self.base):.2f} |"
        )


HEADER = """\
| step | ratio | min – max | target | ms | ms of the base |
| --- | --- | --- | --- | --- | --- |"""


def interleave(programs: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """Seconds a step of each program, A B A B …, after one repetition to warm up."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for repetition in range(repetitions + 1):
        for name, program in programs.items():
            seconds = program()
            if repetition:
                times[name].append(seconds)
    return times
