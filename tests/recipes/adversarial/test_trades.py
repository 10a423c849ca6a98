"""TRADES against its formula written out again."""

import pytest
import torch
from torch import nn

from poise import Batch, RecipeStack, Step, Threat
from poise_recipes import Trades

C = 4


def batch(seed: int = 0, soft: bool = False) -> Batch:
    g = torch.Generator().manual_seed(seed)
    made = Batch.of(torch.rand(6, 5, generator=g, dtype=torch.float64), torch.arange(6) % C, num_classes=C)
    x_adv = (made.x + 0.1 * torch.rand(6, 5, generator=g, dtype=torch.float64)).clamp(0, 1)
    target = torch.rand(6, C, generator=g, dtype=torch.float64).softmax(1) if soft else made.target
    return made.replace(x_adv=x_adv, target=target)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, C)).double()


def by_hand(model: nn.Module, b: Batch, beta: float) -> torch.Tensor:
    """Equation 5 of the paper, with loops and logarithms of probabilities."""
    losses = []
    for x, x_adv, t in zip(b.x, b.x_adv, b.target, strict=True):
        p = torch.exp(model(x)) / torch.exp(model(x)).sum()
        q = torch.exp(model(x_adv)) / torch.exp(model(x_adv)).sum()
        losses.append(-(t * torch.log(p)).sum() + beta * (p * (torch.log(p) - torch.log(q))).sum())
    return torch.stack(losses)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("beta", [0.0, 1.0, 6.0])
def test_loss_and_gradient_are_those_of_the_formula(beta: float, soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack = RecipeStack([Trades(beta)])
    loss = stack.loss(b, Step(model, stack))()
    ours = torch.autograd.grad(loss, list(model.parameters()))
    expected = by_hand(model, b, beta).mean()
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    for a, e in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-6)


def test_the_attack_climbs_the_divergence_from_near_the_input() -> None:
    model, b = network(), batch().replace(x_adv=None)
    stack = RecipeStack([Trades()])
    step = Step(model, stack, threat=Threat("linf", 0.1))
    inner = step.inner(b)
    assert inner(b.x).abs().max() < 1e-12
    attacked = stack.attack(b, step)
    assert attacked.x_adv is not None
    assert (inner(attacked.x_adv) > inner((b.x + 1e-3).clamp(0, 1))).all()
    assert (attacked.x_adv - b.x).abs().max() <= 0.1 + 1e-9


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
