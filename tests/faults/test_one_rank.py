"""What goes wrong on one rank of a run: all end soon, and say the same of it."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

import faulty
from forks import Forks
from poise import checkpoint

SOON = 30.0  # seconds, of a minute that is promised: others work on this machine


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (faulty.fails_in_a_hook, "ValueError: one rank's hook has had enough"),
        (faulty.fails_in_reading, "OSError: row 40 of the data is damaged"),
        (faulty.fails_for_memory, "OutOfMemory: the device's memory is too small: set trainer.accumulate="),
    ],
)
def test_an_error_on_one_rank_ends_all_with_its_own_words(
    forks: Forks, tmp_path: Path, fails: Callable[[str], None], said: str
) -> None:
    began = time.monotonic()
    other, guilty = forks.ends(fails, str(tmp_path / "run"), ranks=2)
    assert time.monotonic() - began < SOON
    assert (other.code, guilty.code) == (1, 1)
    assert said in guilty.value.splitlines()[-1]
    assert f"RankLost: rank 1 failed: {said}" in other.value.splitlines()[-1]
    assert "rank 1 failed" in (tmp_path / "run" / "log.txt").read_text()
    kept = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert (kept.facts["step"] if kept else 0) == (0 if fails is faulty.fails_in_reading else 4)


def test_a_rank_that_works_alone_for_longer_than_collectives_wait_is_waited_for(forks: Forks, tmp_path: Path) -> None:
    began = time.monotonic()
    first, second = forks.ends(faulty.evaluates_slowly, str(tmp_path / "run"), 2.0, 5.0, ranks=2)
    assert (first.code, second.code) == (0, 0), f"{first.value}\n{second.value}"
    assert first.value == second.value == {**first.value, "test/slow": 1.0}
    assert time.monotonic() - began > 10
