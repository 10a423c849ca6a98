"""WEAT's weights, and both losses of the paper."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attacked import assert_same, batch, heard, network
from poise import Batch, Outcome, RecipeStack, Step
from poise.models.classifier import Output
from poise_recipes import PGDAT, WEAT, Trades


def by_hand(model: nn.Module, b: Batch, beta: float, attacked: bool) -> Tensor:
    """WEAT_nat, or WEAT_adv, with loops and logarithms of probabilities; the weights are numbers."""
    assert b.x_adv is not None
    losses = []
    for x, x_adv, t in zip(b.x, b.x_adv, b.target, strict=True):
        p, q = (torch.exp(model(z)) / torch.exp(model(z)).sum() for z in (x, x_adv))
        energy = -math.log(sum(math.exp(value) for value in model(x).tolist()))
        weight = 1 / math.log(1 + math.exp(abs(energy)))
        label_loss = -(t * torch.log(q if attacked else p)).sum()
        losses.append(weight * (label_loss + beta * (p * (torch.log(p) - torch.log(q))).sum()))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("label_on", ["clean", "attacked"])
def test_loss_and_gradient_are_those_of_the_formula(label_on: str, soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack = RecipeStack([WEAT(), Trades(6.0, label_on=label_on)])  # type: ignore[arg-type]
    loss = stack.loss(b, Step(model, stack))()
    assert_same(model, loss, by_hand(model, b, 6.0, attacked=label_on == "attacked"))


def test_it_brings_trades_and_its_attack_unless_others_do() -> None:
    assert set(RecipeStack([WEAT()]).names) == {"weat", "trades", "pgd"}
    assert RecipeStack([WEAT()]).members["pgd"].start == "normal"
    assert set(RecipeStack([WEAT(), PGDAT()]).names) == {"weat", "pgd_at", "pgd"}


def outcome(energies: list[float]) -> Outcome:
    """One whose clean logits, of two classes, have these energies."""
    logits = -torch.tensor(energies, dtype=torch.float64)[:, None].expand(-1, 2) - math.log(2)
    return Outcome(torch.ones(len(energies), dtype=torch.float64), clean=Output(logits, logits))


def test_the_nearer_an_energy_is_to_zero_the_greater_the_weight() -> None:
    stack, b = RecipeStack([WEAT()]), batch()
    energies = [0.0, -1.0, 2.0, -5.0, -10.0, 10.0]
    weight = stack.weights(outcome(energies), b, Step(network(), stack))
    expected = torch.tensor([1.443, 0.761, 0.470, 0.200, 0.100, 0.100], dtype=torch.float64)
    torch.testing.assert_close(weight, expected, rtol=0, atol=6e-4)


@given(st.floats(-300, 300), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_where_all_energies_are_one_the_loss_is_a_multiple_of_trades(energy: float, seed: int) -> None:
    stack, b = RecipeStack([WEAT()]), batch(seed)
    weight = stack.weights(outcome([energy] * len(b)), b, Step(network(), stack))
    assert weight is not None
    assert not weight.requires_grad
    assert (weight == weight[0]).all()
    assert 0 < weight[0] <= 1.4427


def test_the_energies_of_clean_and_attacked_inputs_are_logged() -> None:
    model, b, (values, log) = network(), batch(), heard()
    stack = RecipeStack([WEAT()])
    stack.loss(b, Step(model, stack, log=log))()
    clean, attacked = (float(-torch.exp(model(z).detach()).sum(1).log().mean()) for z in (b.x, b.attacked))
    assert values["weat/energy"] == pytest.approx(clean)
    assert values["weat/energy_attacked"] == pytest.approx(attacked)
    assert values["weat/energy_difference"] == pytest.approx(clean - attacked)


def test_under_an_objective_without_clean_logits_the_stack_makes_them() -> None:
    model, b, (values, log) = network(), batch(), heard()
    stack = RecipeStack([WEAT(), PGDAT()])
    loss = stack.loss(b, Step(model, stack, log=log))()
    energies = -torch.exp(model(b.x).detach()).sum(1).log()
    weight = 1 / torch.log(1 + torch.exp(energies.abs()))
    expected = (weight * nn.functional.cross_entropy(model(b.attacked), b.label, reduction="none")).mean()
    assert_same(model, loss, expected)
    assert values["weat/energy"] == pytest.approx(float(energies.mean()))
