"""Ranks that wait for each other with patience, and say who was lost: two processes, and what befalls one of them."""

import signal
import time

import pytest

import faulty
from forks import KILLED, Forks
from poise.launching import MEMORY

LINE = "poise.launching.RankLost: "


def lost(traceback: str) -> str:
    """What a rank says in the end."""
    last = traceback.strip().splitlines()[-1]
    assert last.startswith(LINE), traceback
    return last.removeprefix(LINE)


def test_one_that_works_alone_is_waited_for_longer_than_silence_is_borne(forks: Forks) -> None:
    first, second = forks.ends(faulty.meets, 1.5, 4.0, ranks=2)
    assert (first.code, second.code) == (0, 0)
    assert second.value > 4


def test_many_meetings_take_no_time(forks: Forks) -> None:
    for end in forks.ends(faulty.meets, 1.0, 0.0, 100, ranks=2):
        assert end.value < 10


@pytest.mark.parametrize(("number", "last"), [(signal.SIGKILL, False), (signal.SIGSTOP, True)])
def test_one_that_shows_no_sign_of_life_is_named(forks: Forks, number: int, last: bool) -> None:
    began = time.monotonic()
    ends = forks.ends(
        faulty.meets_one_that, 4.0, number, last, ranks=2, grace=20.0 if number == signal.SIGKILL else 1.0
    )
    assert time.monotonic() - began < 30
    gone, left = reversed(ends) if last else ends
    assert gone.code == KILLED
    assert lost(left.value) == f"rank {int(last)} did not answer for 4 s (trainer.timeout)"


def test_one_that_fails_says_of_what_and_no_secrets(forks: Forks) -> None:
    began = time.monotonic()
    _, left = forks.ends(faulty.meets_one_that_fails, 60.0, ranks=2)
    assert time.monotonic() - began < 20
    assert lost(left.value) == "rank 0 failed: ValueError: https://***@host says no"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, f"rank 1 ended without a word, {MEMORY}"),
        (signal.SIGSTOP, "rank 1 did not answer for 4 s (trainer.timeout)"),
    ],
)
def test_who_is_lost_in_a_collective_is_named(forks: Forks, number: int, said: str) -> None:
    began = time.monotonic()
    left, gone = forks.ends(
        faulty.reduces_with_one_that, 4.0, number, ranks=2, grace=20.0 if number == signal.SIGKILL else 1.0
    )
    assert time.monotonic() - began < 30
    assert gone.code == KILLED
    assert lost(left.value) == said


def test_one_that_lives_and_does_not_come_is_told_from_one_that_is_lost(forks: Forks) -> None:
    left, _ = forks.ends(faulty.reduces_with_one_elsewhere, 1.0, ranks=2, grace=0.5)
    assert lost(left.value).startswith("the ranks do not come to the same place (trainer.timeout): ")
