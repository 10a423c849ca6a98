"""Schedules are pure functions of progress."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import UserError
from poise.schedules.constant import constant
from poise.schedules.cosine import cosine
from poise.schedules.step import step

PROGRESS = st.floats(0.0, 1.0)


@given(PROGRESS)
def test_constant_is_one(progress: float) -> None:
    assert constant(progress) == 1.0


@pytest.mark.parametrize(
    ("progress", "factor"),
    [(0.0, 1.0), (0.49, 1.0), (0.5, 0.1), (0.74, 0.1), (0.75, 0.01), (1.0, 0.01)],
)
def test_step_drops_at_half_and_three_quarters(progress: float, factor: float) -> None:
    assert step(progress) == pytest.approx(factor)


def test_step_takes_milestones_in_any_order() -> None:
    assert step(0.6, milestones=[0.9, 0.2, 0.6], gamma=0.5) == 0.25
    assert step(0.6, milestones=[]) == 1.0


def test_step_refuses_epochs_for_shares_and_a_gamma_of_zero() -> None:
    with pytest.raises(UserError, match=r"schedule\.milestones: 100 is not a share of the run"):
        step(0.1, milestones=[100])
    with pytest.raises(UserError, match=r"schedule\.gamma=0\.0 must be above 0"):
        step(0.1, gamma=0.0)


@given(PROGRESS, st.floats(0.0, 0.99), st.floats(0.0, 1.0))
def test_cosine_follows_its_formula(progress: float, warmup: float, final: float) -> None:
    factor = cosine(progress, warmup, final)
    if progress < warmup:
        assert factor == progress / warmup
    else:
        angle = math.pi * (progress - warmup) / (1 - warmup)
        assert factor == pytest.approx((1 + final) / 2 + (1 - final) / 2 * math.cos(angle))
        assert final - 1e-12 <= factor <= 1.0 + 1e-12


def test_cosine_at_its_ends() -> None:
    assert cosine(0.0) == 1.0
    assert cosine(1.0) == pytest.approx(0.0, abs=1e-15)
    assert cosine(0.0, warmup=0.2) == 0.0
    assert cosine(0.2, warmup=0.2) == 1.0
    assert cosine(1.0, final=0.3) == pytest.approx(0.3)


def test_cosine_refuses_parameters_out_of_range() -> None:
    with pytest.raises(UserError, match=r"schedule\.warmup=1\.0 is a share of the run"):
        cosine(0.5, warmup=1.0)
    with pytest.raises(UserError, match=r"schedule\.final=2\.0 is a factor"):
        cosine(0.5, final=2.0)
