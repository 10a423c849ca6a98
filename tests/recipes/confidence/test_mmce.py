"""The kernel calibration error against its double sum, its recursion and a value worked out elsewhere."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from attacked import assert_same, batch, network
from poise import Outcome, RecipeStack, Step
from poise.models.classifier import Output
from poise_recipes import MMCE, Trades
from poise_recipes.confidence.mmce import kernel_mean

pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=12)
GOLDEN = (0.90, 0.85, 0.80, 0.70, 0.62, 0.55, 0.48, 0.75, 0.80, 0.37)
RIGHT = (1, 1, 0, 1, 1, 0, 1, 1, 1, 0)


def double_sum(logits: Tensor, target: Tensor, width: float) -> Tensor:
    """The definition, with loops over the pairs."""
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    s = p.amax(1)
    r = target[torch.arange(len(p)), p.argmax(1)] - s
    every = range(len(p))
    total = sum((r[i] * r[j] * torch.exp(-(s[i] - s[j]).abs() / width) for i in every for j in every), s.new_zeros(()))
    return total / len(p) ** 2


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("width", [0.4, 0.05])
def test_the_penalty_is_the_double_sum_over_attacked_predictions(width: float, soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack, host = RecipeStack([Trades(), MMCE(0.7, width)]), RecipeStack([Trades()])
    expected = host.loss(b, Step(model, host))() + 0.7 * double_sum(model(b.attacked), b.target, width)
    assert_same(model, stack.loss(b, Step(model, stack))(), expected)


def test_a_value_worked_out_elsewhere() -> None:
    s, a = torch.tensor(GOLDEN, dtype=torch.float64), torch.tensor(RIGHT, dtype=torch.float64)
    own = torch.stack([s, a - s], 1)
    assert kernel_mean(own, own, 0.4).sqrt().item() == pytest.approx(0.0496599651, abs=1e-10)


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_it_is_the_recursion_over_sorted_confidences_and_never_negative(examples: list[tuple[float, float]]) -> None:
    total = previous = carried = 0.0
    for s, r in sorted(examples):
        carried = r + math.exp(-(s - previous) / 0.4) * carried
        total, previous = total + r * (2 * carried - r), s
    own = torch.tensor(examples, dtype=torch.float64)
    found = kernel_mean(own, own, 0.4).item()
    assert found == pytest.approx(total / len(examples) ** 2, abs=1e-10)
    assert found > -1e-12


def test_slopes_are_those_of_finite_differences() -> None:
    model, b = network(), batch(soft=True)

    def penalty(z: Tensor) -> Tensor:
        return MMCE().penalty(Outcome(z.sum(1), clean=Output(z, None)), b, Step(model))

    assert gradcheck(penalty, model(b.x).detach().requires_grad_())


def test_no_weight_leaves_the_host_as_it_is() -> None:
    model, b = network(), batch()
    stack, host = RecipeStack([MMCE(weight=0.0)]), RecipeStack()
    assert_same(model, stack.loss(b, Step(model, stack))(), host.loss(b, Step(model, host))())
