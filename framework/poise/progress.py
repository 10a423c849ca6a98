"""What a person is told, and sees of long work."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from poise.evaluator import Progress, no_progress


def say(text: str) -> None:
    """Tell the person who started the run."""
    print(text, flush=True)


def progress_bar(shown: bool) -> Progress:
    """A progress bar for evaluations, where a terminal can show it."""
    return _bar if shown and sys.stderr.isatty() else no_progress


def _bar(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    return _drawn(title, total)


@contextmanager
def _drawn(title: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)
