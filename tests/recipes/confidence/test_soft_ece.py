"""The soft calibration error against its formula, and against the error that it softens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from attacked import assert_same, batch, network
from poise import RecipeStack, Step
from poise_recipes import SoftECE, Trades
from poise_recipes.confidence.soft_ece import soft_error, soft_sums


def by_hand(confidence: Tensor, right: Tensor, bins: int, temperature: float) -> Tensor:
    """The definition, bin by bin."""
    anchors = [(j + 0.5) / bins for j in range(bins)]
    near = [torch.exp(-((confidence - anchor) ** 2) / temperature) for anchor in anchors]
    squares = confidence.new_zeros(())
    for one in near:
        member = one / sum(near)
        size = member.sum()
        gap = ((member * confidence).sum() - (member * right).sum()) / size.clamp(min=1e-5)  # as published
        squares = squares + size / len(confidence) * gap**2
    return squares.sqrt()


def equal_width(confidence: Tensor, right: Tensor, bins: int) -> float:
    """The L2 error of bins with borders."""
    squares = 0.0
    for j in range(bins):
        inside = (confidence > j / bins) & (confidence <= (j + 1) / bins)
        if inside.any():
            gap = confidence[inside].mean() - right[inside].mean()
            squares += float(inside.double().mean() * gap**2)
    return squares**0.5


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("bins", "temperature"), [(15, 0.01), (4, 0.1), (1, 1.0)])
def test_the_penalty_is_the_formula_over_attacked_predictions(bins: int, temperature: float, soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack, host = RecipeStack([Trades(), SoftECE(0.7, bins, temperature)]), RecipeStack([Trades()])
    p = torch.exp(model(b.attacked)) / torch.exp(model(b.attacked)).sum(1, keepdim=True)
    right = b.target[torch.arange(len(b)), p.argmax(1)]
    expected = host.loss(b, Step(model, host))() + 0.7 * by_hand(p.amax(1), right, bins, temperature)
    assert_same(model, stack.loss(b, Step(model, stack))(), expected)


@given(st.integers(1, 20), st.lists(st.tuples(st.floats(0.05, 0.95), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_it_tends_to_the_error_of_equal_width_bins(bins: int, examples: list[tuple[float, bool]]) -> None:
    places = torch.arange(len(examples)) % bins
    within, right = torch.tensor(examples, dtype=torch.float64).unbind(1)
    confidence = (places + within) / bins  # away from borders, where half a membership stays at any temperature
    found = soft_error(soft_sums(confidence, right, bins, temperature=1e-3 / bins**2))
    assert found.item() == pytest.approx(equal_width(confidence, right, bins), abs=1e-5)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
@settings(max_examples=60, deadline=None)
def test_sums_of_parts_add_up_to_those_of_the_whole(examples: list[tuple[float, float]]) -> None:
    s, a = torch.tensor(examples, dtype=torch.float64).unbind(1)
    parts = soft_sums(s[:1], a[:1], 15, 0.01) + soft_sums(s[1:], a[1:], 15, 0.01)
    torch.testing.assert_close(parts, soft_sums(s, a, 15, 0.01))
    assert 0 <= soft_error(parts).item() <= 1 + 1e-9


def test_what_is_calibrated_has_no_error_and_a_slope_that_is_finite() -> None:
    s = torch.tensor([0.75, 0.75, 0.75, 0.75], requires_grad=True)
    error = soft_error(soft_sums(s, torch.tensor([1.0, 1.0, 1.0, 0.0]), 10, 0.01))
    (slope,) = torch.autograd.grad(error, s)
    assert error.item() == pytest.approx(0, abs=1e-5)
    assert slope.isfinite().all()


def test_slopes_are_those_of_finite_differences() -> None:
    s = torch.tensor([0.3, 0.55, 0.8, 0.97], dtype=torch.float64, requires_grad=True)
    right = torch.tensor([0.0, 1.0, 0.4, 1.0], dtype=torch.float64)
    assert gradcheck(lambda confidence: soft_error(soft_sums(confidence, right, 15, 0.01)), s)
