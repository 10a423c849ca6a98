import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.honesty.check import Check, share_limit, table
from poise.honesty.sample import Beyond


def check(measured: float | None, limit: float = 0.02, why: str = "") -> Check:
    return Check("transfer", "what it breaks", measured, limit, "doubt it", why)


@given(st.floats(-1, 1), st.floats(0, 1))
def test_only_what_is_over_its_limit_is_flagged(measured: float, limit: float) -> None:
    assert check(measured, limit).flagged == (measured > limit)


def test_what_is_no_number_is_flagged_and_what_was_not_run_is_not() -> None:
    assert check(math.nan).verdict == "FLAGGED"
    assert not check(None, why="no data").flagged
    assert check(None, why="no data").verdict == "not run: no data"


def test_a_warning_says_what_was_measured_and_what_to_do() -> None:
    assert check(0.125).warning() == "transfer (what it breaks: 12.5 %, over 2.0 %); doubt it"


def test_a_handful_of_examples_flags_nothing() -> None:
    assert share_limit(0.02, 100) == pytest.approx(0.03)
    assert share_limit(0.02, 1000) == 0.02


def test_chance_alone_reaches_no_limit() -> None:
    assert Beyond(0.1, 0.03).limit(0.01) == pytest.approx(0.06)
    assert Beyond(0.1, 0.001).limit(0.01) == 0.01


def test_the_table_says_how_many_are_flagged() -> None:
    found = table("test, honesty", [check(0.5), check(-0.25), check(2e-4, 1e-4)], 1200)
    assert [row.cells for row in found.rows] == [
        ("50.0 %", "2.0 %", "FLAGGED"),
        ("-25.0 %", "2.0 %", "passed"),
        ("2e-04", "1e-04", "FLAGGED"),
    ]
    assert found.note == "on 1,200 examples: 2 of 3 flagged"
