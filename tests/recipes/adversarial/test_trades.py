"""TRADES against its formula written out again."""

import pytest
import torch
from torch import nn

from attacked import assert_same, batch, network
from poise import Batch, RecipeStack, Step, Threat
from poise_recipes import PGD, Trades


def by_hand(model: nn.Module, b: Batch, beta: float, attacked: bool = False) -> torch.Tensor:
    """Equation 5 of the paper, with loops and logarithms of probabilities; its label loss on x, or on x'."""
    losses = []
    for x, x_adv, t in zip(b.x, b.attacked, b.target, strict=True):
        p = torch.exp(model(x)) / torch.exp(model(x)).sum()
        q = torch.exp(model(x_adv)) / torch.exp(model(x_adv)).sum()
        label_loss = -(t * torch.log(q if attacked else p)).sum()
        losses.append(label_loss + beta * (p * (torch.log(p) - torch.log(q))).sum())
    return torch.stack(losses)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_loss_and_gradient_are_those_of_the_formula(beta: float, soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack = RecipeStack([Trades(beta)])
    assert_same(model, stack.loss(b, Step(model, stack))(), by_hand(model, b, beta).mean())


def test_the_label_loss_may_be_that_of_the_attacked_inputs() -> None:
    model, b = network(), batch(soft=True)
    stack = RecipeStack([Trades(6.0, label_on="attacked")])
    assert_same(model, stack.loss(b, Step(model, stack))(), by_hand(model, b, 6.0, attacked=True).mean())


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.3)])
def test_the_attack_is_that_of_the_authors(norm: str, eps: float) -> None:
    """Inputs so far inside their range that their two orders of projection are one."""
    model, b = network(), batch().replace(x_adv=None)
    b = b.replace(x=0.4 + 0.2 * b.x)
    stack, size = RecipeStack([Trades(), PGD(steps=5, step_size=2 * eps / 5, start="normal")]), 2 * eps / 5
    step = Step(model, stack, threat=Threat(norm, eps))
    clean = model(b.x).detach().softmax(1)
    delta = 0.001 * step.bound("pgd").normal(b, b.x, "start")
    for _ in range(5):
        delta.requires_grad_()
        kl = (clean * (clean.log() - model(b.x + delta).log_softmax(1))).sum()
        (slope,) = torch.autograd.grad(kl, delta)
        if norm == "linf":
            delta = (delta.detach() + size * slope.sign()).clamp(-eps, eps)
        else:
            delta = (delta.detach() + size * slope / slope.norm(dim=1, keepdim=True)).renorm(2, 0, eps)
    torch.testing.assert_close(stack.attack(b, step).attacked, b.x + delta, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.2), ("l1", 0.4)])
def test_the_attack_climbs_the_divergence_from_near_the_input(norm: str, eps: float) -> None:
    model, b = network(), batch().replace(x_adv=None)
    stack = RecipeStack([Trades()])
    step = Step(model, stack, threat=Threat(norm, eps))
    inner = step.inner(b)
    assert inner(b.x).abs().max() < 1e-12
    attacked = stack.attack(b, step).attacked
    assert (inner(attacked) > inner((b.x + 1e-3).clamp(0, 1))).all()
    assert (step.threat.distance(attacked, b.x) <= eps + 1e-9).all()


def test_labels_change_the_label_loss_alone() -> None:
    model, b = network(), batch()
    stack = RecipeStack([Trades()])
    outcome = stack.objective(b, Step(model, stack))
    other = stack.objective(b.replace(target=b.target.roll(1, 1)), Step(model, stack))
    torch.testing.assert_close(outcome.terms["kl"], other.terms["kl"])
    assert not torch.allclose(outcome.terms["label_loss"], other.terms["label_loss"])
    assert (outcome.terms["kl"] >= 0).all()


def test_it_brings_its_attack_unless_another_attacks() -> None:
    assert RecipeStack([Trades()]).names == ("trades", "pgd")
    assert RecipeStack([Trades()]).owner("attack")[1].start == "normal"
