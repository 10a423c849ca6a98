"""What every test has: executed shape annotations, one thread, and a pair of rank processes."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PATHS = [str(TESTS / folder) for folder in ("shapes", "hooks", ".")]

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [*PATHS, *filter(None, [os.environ.get("PYTHONPATH")])]
)  # so that processes started by a test check shapes too
sys.path[:0] = [path for path in PATHS if path not in sys.path]

for number in (signal.SIGINT, signal.SIGHUP):  # ignored in the background of a script, and under nohup
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

import shape_checks  # noqa: E402  (the hook has to be there before anything imports poise)

shape_checks.install()

import pytest  # noqa: E402

from forks import Forks  # noqa: E402
from ranks import Pair  # noqa: E402


@pytest.fixture(scope="session")
def pair() -> Iterator[Pair]:
    """Two rank processes joined by gloo, started at first use and kept for the whole session."""
    with Pair() as pair:
        yield pair


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """A process that has trained once, and forks itself for each call of a function, kept for the whole session."""
    from killed_runs import warm

    with Forks(warm) as forks:
        yield forks
