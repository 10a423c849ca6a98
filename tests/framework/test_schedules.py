"""Schedules are pure functions of progress."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.errors import UserError
from poise.schedules.constant import constant
from poise.schedules.cosine import cosine
from poise.schedules.multi_step import multi_step
from poise.schedules.one_cycle import one_cycle
from poise.schedules.step import step

PROGRESS = st.floats(0.0, 1.0)


@given(PROGRESS)
def test_constant_is_one(progress: float) -> None:
    assert constant(progress) == 1.0


@pytest.mark.parametrize(
    ("progress", "factor"),
    [(0.0, 1.0), (0.49, 1.0), (0.5, 0.1), (0.74, 0.1), (0.75, 0.01), (1.0, 0.01)],
)
def test_multi_step_drops_at_half_and_three_quarters(progress: float, factor: float) -> None:
    assert multi_step(progress) == pytest.approx(factor)


def test_multi_step_takes_milestones_in_any_order() -> None:
    assert multi_step(0.6, milestones=[0.9, 0.2, 0.6], gamma=0.5) == 0.25
    assert multi_step(0.6, milestones=[]) == 1.0


@given(PROGRESS, st.lists(st.floats(0.01, 1.0)), st.floats(0.01, 1.0), st.floats(0.0, 0.99))
def test_multi_step_rises_over_its_warmup(
    progress: float, milestones: list[float], gamma: float, warmup: float
) -> None:
    factor = multi_step(progress, milestones, gamma, warmup)
    whole = multi_step(progress, milestones, gamma)
    assert factor == (whole if progress >= warmup else pytest.approx(whole * progress / warmup))
    assert 0.0 <= factor <= 1.0


def test_multi_step_refuses_epochs_for_shares_and_a_gamma_of_zero() -> None:
    with pytest.raises(UserError, match=r"schedule\.milestones: 100 is not a share of the run"):
        multi_step(0.1, milestones=[100])
    with pytest.raises(UserError, match=r"schedule\.gamma=0\.0 must be above 0"):
        multi_step(0.1, gamma=0.0)
    with pytest.raises(UserError, match=r"schedule\.warmup=5 is a share of the run"):
        multi_step(0.1, warmup=5)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100), st.floats(0.01, 1.0))
def test_step_drops_with_the_first_step_of_every_nth_epoch(epochs: int, every: int, steps: int, gamma: float) -> None:
    every = min(every, epochs)
    for epoch in range(0, epochs, max(1, epochs // 7)):
        progress = epoch * steps / (epochs * steps)
        assert step(progress, every / epochs, gamma) == pytest.approx(gamma ** (epoch // every))
        before = (epoch * steps + steps - 0.5) / (epochs * steps)
        assert step(before, every / epochs, gamma) == pytest.approx(gamma ** (epoch // every))


def test_step_refuses_epochs_for_shares_and_a_gamma_of_zero() -> None:
    with pytest.raises(UserError, match=r"schedule\.every=30 is a share of the run"):
        step(0.1, every=30)
    with pytest.raises(UserError, match=r"schedule\.gamma=0\.0 must be above 0"):
        step(0.1, gamma=0.0)


@given(PROGRESS, PROGRESS, st.floats(0.01, 0.99), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_one_cycle_is_two_lines(progress: float, other: float, peak: float, start: float, final: float) -> None:
    factor = one_cycle(progress, peak, start, final)
    assert factor == pytest.approx(np.interp(progress, [0.0, peak, 1.0], [start, 1.0, final]))
    assert min(start, final) - 1e-12 <= factor <= 1.0 + 1e-12
    steepest = max((1 - start) / peak, (1 - final) / (1 - peak))
    assert abs(factor - one_cycle(other, peak, start, final)) <= steepest * abs(progress - other) + 1e-9


def test_one_cycle_is_that_of_fast_adversarial_training() -> None:
    steps, weight = 30, torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.2)
    cyclic = torch.optim.lr_scheduler.CyclicLR(
        optimizer, base_lr=0.0, max_lr=0.2, step_size_up=steps / 2, step_size_down=steps / 2
    )
    for done in range(steps):
        assert 0.2 * one_cycle(done / steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        cyclic.step()


def test_one_cycle_along_cosines_is_pytorchs() -> None:
    steps, weight = 40, torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    cyclic = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, pct_start=0.25, total_steps=steps + 1)
    # theirs counts from the first step to the last, one more: the peak is at step 0.25·(steps + 1) - 1
    peak = (0.25 * (steps + 1) - 1) / steps
    for done in range(steps):
        ours = one_cycle(done / steps, peak=peak, start=1 / 25, final=4e-6, along="cosine")
        assert 0.1 * ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        cyclic.step()


def test_one_cycle_refuses_parameters_out_of_range() -> None:
    with pytest.raises(UserError, match=r"schedule\.peak=1\.0 is a share of the run"):
        one_cycle(0.5, peak=1.0)
    with pytest.raises(UserError, match=r"schedule\.final=2\.0 is a factor"):
        one_cycle(0.5, final=2.0)


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
