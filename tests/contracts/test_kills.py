"""Runs that are killed at any moment and taken up again end as one that was not, whatever is registered.

Stacks that together hold every registered recipe, in each precision, are trained once undisturbed; another run of the
same is killed again and again at moments drawn from a seed, and then left to end. All that stands in the two
directories is compared bit by bit.

    POISE_KILLS=100 POISE_SEED=7 tests/run.sh tests/contracts/test_kills.py

kills a hundred times, at other moments, and runs that are tracked as well.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest

from forks import KILLED, End, Forks
from killed_runs import Case, cases, database, stacks, stored, trained, trained_in_ranks
from left_behind import differences, left_behind
from moments import Moment, drawn
from poise.run_directory import RunDirectory

KILLS = int(os.environ.get("POISE_KILLS", 16))
SEED = int(os.environ.get("POISE_SEED", 1))
OFTEN = 5  # kills of one run, at most

Attempt = Callable[[Path, int, Moment | None], End]


def test_a_run_that_is_killed_at_any_moment_ends_as_one_that_was_not(forks: Forks, tmp_path: Path) -> None:
    random, kills = Random(SEED), 0
    found = forks.run(stacks, Random(SEED))
    for number, case in enumerate(cases(random, found, tmp_path), start=1):
        folder = tmp_path / str(number)

        def attempt(path: Path, salt: int, until: Moment | None, case: Case = case) -> End:
            return forks.ends(trained, str(path), case, salt, until)[0]

        kills += len(killed_and_compared(attempt, folder, random, f"{case}"))
        if kills >= KILLS and number >= len(found):
            return


@pytest.mark.parametrize("both", [True, False], ids=["both ranks", "one rank"])
def test_ranks_that_are_killed_go_on_exactly(forks: Forks, tmp_path: Path, both: bool) -> None:
    random = Random(SEED + both)
    trainer = {"devices": 2, "checkpoint_every": 1, "block": 4, "accumulate": 2}
    case = Case(
        ("group_dro", "ema", "trades"), None, trainer, {"strategy": "ddp", "tracking": {"name": "none", "every": 1}}
    )

    def attempt(path: Path, salt: int, until: Moment | None) -> End:
        victim = random.randrange(2)
        ends = forks.ends(trained_in_ranks, str(path), case, salt, until, victim, ranks=2, grace=0.0 if both else 20.0)
        return ends[victim]

    killed_and_compared(attempt, tmp_path, random, f"{case}", often=2)


@pytest.mark.skipif(KILLS < 100, reason="each process imports MLflow: minutes, which POISE_KILLS=100 takes")
def test_what_is_tracked_of_a_killed_run_is_whole_and_there_once(forks: Forks, tmp_path: Path) -> None:
    random = Random(SEED)
    every = cases(random, forks.run(stacks, Random(SEED)), tmp_path)
    case = next(every)
    case = replace(case, groups={**case.groups, "tracking": database(tmp_path)})

    def attempt(path: Path, salt: int, until: Moment | None) -> End:
        return forks.ends(trained, str(path), case, salt, until)[0]

    killed_and_compared(attempt, tmp_path / "a", random, f"{case}")
    whole, killed = stored(tmp_path / "mlflow.db", "undisturbed-run"), stored(tmp_path / "mlflow.db", "killed-run")
    assert len(whole) > 9
    assert whole == killed


def killed_and_compared(attempt: Attempt, folder: Path, random: Random, told: str, often: int = OFTEN) -> list[Moment]:
    """Kill a run some times and let it end; returns the moments."""
    whole, killed = folder / "undisturbed-run", folder / "killed-run"
    undisturbed = attempt(whole, 0, None)
    assert undisturbed.code == 0, undisturbed.value
    moments: list[Moment] = []
    for salt in count(1):
        until = drawn(random, undisturbed.value) if len(moments) < often else None
        end = attempt(killed, salt, until)
        if end.code != KILLED:
            break
        assert until is not None
        moments.append(until)
    told = f"POISE_SEED={SEED}\n{told}\nkilled at {moments}"
    assert end.code == 0, f"{told}\n{end.value}"
    assert RunDirectory(killed).finished
    found = differences(left_behind(whole), left_behind(killed))
    assert found == [], "\n".join([told, *found[:20]])
    return moments
