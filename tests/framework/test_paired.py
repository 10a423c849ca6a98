"""Differences of columns, row by row."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.paired import difference, losses

NUMBERS = st.lists(st.floats(0, 9), min_size=2, max_size=20)


def test_losses_are_cross_entropies_and_inf_where_there_is_none() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -math.inf, 1.0], [math.nan, 0.0, 0.0]])
    label = torch.tensor([0, 1, 2])
    wanted = torch.nn.functional.cross_entropy(logits[:1].double(), label[:1])
    assert losses(logits, label).tolist() == [pytest.approx(float(wanted)), math.inf, math.inf]


@given(NUMBERS, st.floats(-9, 9))
def test_a_difference_is_a_mean_with_its_margin(numbers: list[float], shift: float) -> None:
    one = torch.tensor(numbers, dtype=torch.float64)
    found = difference(one + shift, torch.zeros_like(one))
    assert found.mean == pytest.approx(float(one.mean()) + shift, abs=1e-9)
    assert found.margin == pytest.approx(1.96 * float(one.std()) / len(one) ** 0.5, abs=1e-9)
    assert found.clear == (abs(found.mean) > found.margin)


def test_how_often_a_difference_of_nothing_looks_clear() -> None:
    keyed = torch.Generator().manual_seed(0)
    draws = torch.randn(400, 2, 50, generator=keyed, dtype=torch.float64)
    assert sum(difference(one, other).clear for one, other in draws) / 400 == pytest.approx(0.05, abs=0.025)


def test_what_is_infinite() -> None:
    one, other = torch.tensor([1.0, math.inf]), torch.tensor([1.0, 2.0])
    assert difference(one, other).clear
    assert difference(other, one).mean == -math.inf
    assert not difference(one, one).clear
    assert not difference(one, one.flip(0)).clear
    assert not difference(one[:1], other[1:]).clear
