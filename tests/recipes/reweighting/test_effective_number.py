"""What a class of n examples is worth."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise_recipes.reweighting.effective_number import inverse_effective_number


@given(
    counts=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    beta=st.one_of(st.floats(0, 1), st.floats(0.99, 1)),
)
@settings(max_examples=80, deadline=None)
def test_it_is_one_over_the_geometric_sum(counts: list[int], beta: float) -> None:
    expected = [1 / sum(beta**i for i in range(n)) for n in counts]
    torch.testing.assert_close(
        inverse_effective_number(torch.tensor(counts), beta),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-10,
        atol=0,
    )


@given(
    counts=st.lists(st.integers(1, 10_000_000), min_size=2, max_size=6, unique=True),
    beta=st.floats(0, 1),
)
@settings(max_examples=80, deadline=None)
def test_larger_classes_never_count_more_and_never_nothing(counts: list[int], beta: float) -> None:
    worth = inverse_effective_number(torch.tensor(sorted(counts)), beta)
    rounding = 4 * torch.finfo(torch.float64).eps
    assert (worth.diff() <= rounding * worth[:-1]).all()
    assert (worth > 0).all()
    assert (worth <= 1 + rounding).all()


@pytest.mark.parametrize("beta", [0.0, 0.9, 1.0])
def test_a_class_without_examples_counts_nothing(beta: float) -> None:
    worth = inverse_effective_number(torch.tensor([0, 3]), beta)
    assert worth[0] == 0
    assert worth[1] == pytest.approx(1 / (1 + beta + beta**2))
