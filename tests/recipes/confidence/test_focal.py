"""Focal loss against its formula, and where floating point ends."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from attacked import CLASSES, assert_same, batch, network
from poise import RecipeStack, Step
from poise.losses import soft_cross_entropy
from poise_recipes import Focal, Trades
from poise_recipes.confidence.focal import focused, log_rest

GAMMAS = (0.0, 0.5, 1.0, 3.0, 5.0)
rows = st.lists(st.lists(st.floats(-30, 30), min_size=CLASSES, max_size=CLASSES), min_size=1, max_size=4)


def by_hand(logits: Tensor, target: Tensor, gamma: float, hard_gamma: float = 0.0, hard_below: float = 0.0) -> Tensor:
    """The mean over the rows, with the powers of the formula."""
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    exponent = torch.where(p < hard_below, hard_gamma, gamma).double()
    return -(target * (1 - p) ** exponent * p.log()).sum(1).mean()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_loss_is_the_formula(gamma: float, soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack = RecipeStack([Focal(gamma)])
    assert_same(model, stack.loss(b, Step(model, stack))(), by_hand(model(b.x), b.target, gamma))


@pytest.mark.parametrize("soft", [False, True])
def test_improbable_classes_have_an_exponent_of_their_own(soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    p = model(b.x).softmax(1)
    assert (p < 0.25).any()
    assert (p > 0.25).any()
    stack = RecipeStack([Focal(3.0, hard_gamma=5.0, hard_below=0.25)])
    assert_same(model, stack.loss(b, Step(model, stack))(), by_hand(model(b.x), b.target, 3.0, 5.0, 0.25))


@given(rows)
@settings(max_examples=50, deadline=None)
def test_without_gamma_it_is_the_cross_entropy(logits: list[list[float]]) -> None:
    z = torch.tensor(logits, dtype=torch.float64)
    target = z.roll(1, 1).softmax(1)
    log_p = z.log_softmax(1)
    torch.testing.assert_close(focused(log_p, log_rest(log_p), 0.0, target), soft_cross_entropy(z, target))


@given(rows, st.sampled_from(GAMMAS), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_mixing_targets_and_mixing_losses_are_the_same(logits: list[list[float]], gamma: float, share: float) -> None:
    log_p = torch.tensor(logits, dtype=torch.float64).log_softmax(1)
    one, other = torch.eye(CLASSES, dtype=torch.float64)[:2]
    losses = [focused(log_p, log_rest(log_p), gamma, t.expand_as(log_p)) for t in (one, other)]
    mixed = focused(log_p, log_rest(log_p), gamma, (share * one + (1 - share) * other).expand_as(log_p))
    torch.testing.assert_close(mixed, share * losses[0] + (1 - share) * losses[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("logit", [math.log(1e8), math.log(1e-30), 1000.0, -1000.0, 0.0])
def test_slopes_are_finite_where_a_probability_is_next_to_one_or_none(
    logit: float, gamma: float, dtype: torch.dtype
) -> None:
    z = torch.tensor([[logit, 0.0, -torch.inf]], dtype=dtype, requires_grad=True)
    log_p = z.log_softmax(1)
    loss = focused(log_p, log_rest(log_p), gamma, torch.tensor([[1.0, 0.0, 0.0]], dtype=dtype))
    (slope,) = torch.autograd.grad(loss.sum(), z)
    assert loss.isfinite().all()
    assert slope.isfinite().all()
    assert loss.item() >= 0


@pytest.mark.parametrize("margin", [0.0, 1.0, 8.0, 20.0, 80.0])
def test_what_is_left_by_a_sure_class_is_not_lost_to_rounding(margin: float) -> None:
    left = log_rest(torch.tensor([[margin, 0.0]]).log_softmax(1))
    torch.testing.assert_close(left[0, 0].item(), -margin - math.log1p(math.exp(-margin)), rtol=1e-6, atol=0)
    torch.testing.assert_close(left[0, 1].item(), -math.log1p(math.exp(-margin)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_slopes_are_those_of_finite_differences(gamma: float) -> None:
    def loss(z: Tensor) -> Tensor:
        log_p = z.log_softmax(1)
        return focused(log_p, log_rest(log_p), gamma, batch(soft=True).target)

    assert gradcheck(loss, network()(batch().x).detach().requires_grad_())


def test_of_trades_the_label_term_alone_is_focused() -> None:
    model, b = network(), batch()
    stack = RecipeStack([Focal(2.0), Trades(beta=2.0)])
    p, q = model(b.x).log_softmax(1), model(b.attacked).log_softmax(1)
    expected = by_hand(model(b.x), b.target, 2.0) + 2.0 * (p.exp() * (p - q)).sum(1).mean()
    assert_same(model, stack.loss(b, Step(model, stack))(), expected)
