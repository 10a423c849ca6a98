"""What a person is told, and sees of long work."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

Progress = Callable[[str, int], AbstractContextManager[Callable[[float], None]]]

OFTEN = 0.25  # seconds between two looks at a training


def no_progress(title: str, total: int) -> AbstractContextManager[Callable[[float], None]]:
    """A progress bar that shows nothing."""
    return nullcontext(lambda done: None)


def room() -> int | None:
    """Characters of a line where `say` tells it; None where that is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say(text: str) -> None:
    """Tell the person who started the run."""
    print(text, flush=True)


def progress_bar(shown: bool) -> Progress:
    """A progress bar for what is done piece by piece, where a terminal can show it."""
    return _bar if shown and sys.stderr.isatty() else no_progress


def _bar(title: str, total: int) -> AbstractContextManager[Callable[[float], None]]:
    return _drawn(title, total)


@contextmanager
def _drawn(title: str, total: int) -> Iterator[Callable[[float], None]]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)


class RunBar:
    """One bar for a whole training, with the time that is left of it: validations and all."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._first, self._began, self._next = 0, 0.0, 0.0

    def start(self, done: int, total: int) -> None:
        """Show the bar, `done` of `total` steps having been made before."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}"),
        )
        self._first, self._began = done, time.monotonic()
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("training", total=total, completed=done, told="")
        self._bar.start()

    def due(self) -> bool:
        """Whether it is time to move it."""
        return self._bar is not None and time.monotonic() >= self._next

    def move(self, done: int, where: str, told: str) -> None:
        """Show how far the training is, and what is told of it."""
        if self._bar is None:
            return
        now = time.monotonic()
        self._next = now + OFTEN
        total = self._bar.tasks[self._task].total or done
        left = (now - self._began) / max(done - self._first, 1) * (total - done)
        self._bar.update(self._task, completed=done, description=where, told=f"{lasting(left)} left  {told}")

    def stop(self) -> None:
        """Take it away; a second time does nothing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def lasting(seconds: float) -> str:
    """A duration as people say it: 40 s, 3 min 20 s, 2 h 5 min, 1 d 4 h."""
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for (size, name), (finer, finer_name) in pairwise(units):
        if whole >= size:
            big, rest = divmod(whole, size)
            small = rest // finer
            return f"{big} {name} {small} {finer_name}" if small else f"{big} {name}"
    return f"{whole} s"
