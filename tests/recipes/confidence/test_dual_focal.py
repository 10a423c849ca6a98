"""Dual focal loss against its formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from attacked import CLASSES, batch, network
from poise import RecipeStack, Step
from poise.losses import soft_cross_entropy
from poise_recipes import DualFocal, Trades
from poise_recipes.confidence.dual_focal import log_next
from poise_recipes.confidence.focal import focused, log_rest

GAMMAS = (0.0, 0.5, 2.3, 5.0)
rows = st.lists(st.lists(st.integers(-4, 4), min_size=CLASSES, max_size=CLASSES), min_size=1, max_size=4)


def dual(z: Tensor, target: Tensor, gamma: float) -> Tensor:
    b, recipe = batch(), DualFocal(gamma)
    return recipe.criterion(z, target, b, Step(network()))


def by_hand(z: Tensor, target: Tensor, gamma: float) -> list[float]:
    """The loss of each row, with loops."""
    found = []
    for p, t in zip(z.softmax(1).tolist(), target.tolist(), strict=True):
        rivals = [max((other for other in p if other < own * (1 - 1e-12)), default=0.0) for own in p]
        each = zip(p, rivals, t, strict=True)
        found.append(sum(-share * (1 - own + rival) ** gamma * math.log(own) for own, rival, share in each))
    return found


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_the_loss_is_the_formula(gamma: float, soft: bool) -> None:
    z, target = network()(batch().x).detach(), batch(soft=soft).target
    assert dual(z, target, gamma).tolist() == pytest.approx(by_hand(z, target, gamma), abs=1e-12)


@given(rows, st.sampled_from(GAMMAS))
@settings(max_examples=60, deadline=None)
def test_ties_are_passed_over(logits: list[list[int]], gamma: float) -> None:
    z = torch.tensor(logits, dtype=torch.float64)
    target, log_p = z.roll(1, 1).softmax(1), z.log_softmax(1)
    found = focused(log_p, torch.logaddexp(log_rest(log_p), log_next(log_p)), gamma, target)
    assert found.tolist() == pytest.approx(by_hand(z, target, gamma), abs=1e-9)
    if gamma == 0:
        torch.testing.assert_close(found, soft_cross_entropy(z, target))


def test_the_rival_of_a_class_that_is_not_predicted_is_below_it() -> None:
    log_p = torch.tensor([[0.2, 0.5, 0.3, 0.0]]).log()
    expected = torch.tensor([[0.0, 0.3, 0.2, 0.0]]).log()
    torch.testing.assert_close(log_next(log_p), expected)
    assert log_next(torch.zeros(1, 3)).isneginf().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("logit", [math.log(1e8), math.log(1e-30), 1000.0, -1000.0, 0.0])
def test_slopes_are_finite_where_a_probability_is_next_to_one_or_none(
    logit: float, gamma: float, dtype: torch.dtype
) -> None:
    z = torch.tensor([[logit, 0.0, -torch.inf]], dtype=dtype, requires_grad=True)
    loss = dual(z, torch.tensor([[1.0, 0.0, 0.0]], dtype=dtype), gamma)
    (slope,) = torch.autograd.grad(loss.sum(), z)
    assert loss.isfinite().all()
    assert slope.isfinite().all()


@pytest.mark.parametrize("gamma", GAMMAS)
def test_slopes_are_those_of_finite_differences_through_the_rival_too(gamma: float) -> None:
    target = batch(soft=True).target
    assert gradcheck(lambda z: dual(z, target, gamma), network()(batch().x).detach().requires_grad_())


def test_it_is_the_label_term_of_trades() -> None:
    model, b = network(), batch()
    stack, host = RecipeStack([DualFocal(2.0), Trades(beta=2.0)]), RecipeStack([Trades(beta=2.0)])
    difference = stack.loss(b, Step(model, stack))() - host.loss(b, Step(model, host))()
    z = model(b.x).detach()
    labels = sum(by_hand(z, b.target, 2.0)) / len(b) - soft_cross_entropy(z, b.target).mean()
    torch.testing.assert_close(difference, labels)
