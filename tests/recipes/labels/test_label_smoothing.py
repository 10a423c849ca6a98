"""Smoothed targets in the label loss, and nowhere else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import Batch, RecipeStack, Step, Threat
from poise.errors import UserError
from poise_recipes import PGDAT, LabelSmoothing, Trades
from poise_recipes.labels.label_smoothing import smoothed

S = 0.2


def setting() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return model, Batch.of(torch.rand(8, 5, dtype=torch.float64), torch.arange(8) % 3, num_classes=3)


def distributions(seed: int, rows: int, classes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, classes, generator=generator, dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_is_that_of_pytorch(soft: bool) -> None:
    model, b = setting()
    b = b.replace(target=distributions(0, 8, 3)) if soft else b
    stack = RecipeStack([LabelSmoothing(S)])
    target = b.target if soft else b.label
    expected = nn.functional.cross_entropy(model(b.x), target, label_smoothing=S)
    torch.testing.assert_close(stack.loss(b, Step(model, stack))(), expected, rtol=0, atol=1e-12)


@given(smoothing=st.floats(0, 0.99), share=st.floats(0, 1), seed=st.integers(0, 1000), classes=st.integers(2, 7))
@settings(max_examples=60, deadline=None)
def test_smoothing_keeps_distributions_and_their_order_and_commutes_with_mixing(
    smoothing: float, share: float, seed: int, classes: int
) -> None:
    one, other = distributions(seed, 4, classes), distributions(seed + 1, 4, classes)
    after = smoothed(one, smoothing)
    torch.testing.assert_close(after.sum(1), torch.ones(4, dtype=torch.float64))
    assert (after >= smoothing / classes).all()
    assert torch.equal(after.argmax(1), one.argmax(1))
    mixed = share * after + (1 - share) * smoothed(other, smoothing)
    torch.testing.assert_close(smoothed(share * one + (1 - share) * other, smoothing), mixed)


def test_no_smoothing_changes_nothing() -> None:
    target = distributions(0, 4, 3)
    assert torch.equal(smoothed(target, 0.0), target)


def test_of_trades_the_label_term_alone_is_smoothed() -> None:
    model, b = setting()
    b = b.replace(x_adv=(b.x + 0.1).clamp(0, 1))
    stack = RecipeStack([LabelSmoothing(S), Trades(beta=2.0)])
    p, q = model(b.x).log_softmax(1), model(b.x_adv).log_softmax(1)
    label_loss = nn.functional.cross_entropy(p, b.label, label_smoothing=S)
    expected = label_loss + 2.0 * (p.exp() * (p - q)).sum(1).mean()
    torch.testing.assert_close(stack.loss(b, Step(model, stack))(), expected, rtol=0, atol=1e-12)


def test_attacks_see_the_targets_as_they_are() -> None:
    model, b = setting()
    found = {}
    for recipes in ([PGDAT()], [LabelSmoothing(0.9), PGDAT()]):
        stack = RecipeStack(recipes)
        step = Step(model, stack, threat=Threat("linf", 0.1))
        found[len(recipes)] = stack.attack(b, step)
    assert torch.equal(found[1].x_adv, found[2].x_adv)
    assert torch.equal(found[2].target, b.target)
    assert torch.equal(found[1].kappa, found[2].kappa)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(smoothing: float) -> None:
    with pytest.raises(UserError, match=rf"label_smoothing.smoothing={smoothing} .*0 or more and below 1"):
        RecipeStack([LabelSmoothing(smoothing)])
