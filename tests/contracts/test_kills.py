"""Runs that are killed at any moment and taken up again end as one that was not, whatever is registered.

Stacks that together hold every registered recipe, in each precision, are trained once undisturbed; another run of the
same is killed again and again at moments drawn from a seed, and then left to end. All that stands in the two
directories is compared bit by bit.

    POISE_KILLS=100 POISE_SEED=7 tests/run.sh tests/contracts/test_kills.py

kills a hundred times, at other moments.
"""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random

import pytest

from forks import KILLED, Forks
from killed_runs import Case, cases, stacks, trained, warm
from left_behind import differences, left_behind
from moments import Moment, drawn
from poise.run_directory import RunDirectory

KILLS = int(os.environ.get("POISE_KILLS", 24))
SEED = int(os.environ.get("POISE_SEED", 1))
OFTEN = 5  # kills of one run, at most


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks(warm) as forks:
        yield forks


def test_a_run_that_is_killed_at_any_moment_ends_as_one_that_was_not(forks: Forks, tmp_path: Path) -> None:
    random, kills = Random(SEED), 0
    found = forks.run(stacks, random)
    every = cases(random, found, tmp_path)
    while kills < KILLS:
        kills += len(killed_and_compared(forks, tmp_path / f"{kills}", next(every), random))


def killed_and_compared(forks: Forks, folder: Path, case: Case, random: Random) -> list[Moment]:
    """Kill a run some times and let it end; returns the moments."""
    whole, killed = folder / "undisturbed-run", folder / "killed-run"
    calls = forks.run(trained, str(whole), case, 0)
    moments: list[Moment] = []
    for salt in count(1):
        until = drawn(random, calls) if salt <= OFTEN else None
        (end,) = forks.ends(trained, str(killed), case, salt, until)
        if end.code != KILLED:
            break
        assert until is not None
        moments.append(until)
    told = f"POISE_SEED={SEED}\n{case}\nkilled at {moments}"
    assert end.code == 0, f"{told}\n{end.value}"
    assert RunDirectory(killed).finished
    found = differences(left_behind(whole), left_behind(killed))
    assert found == [], "\n".join([told, *found[:20]])
    return moments
