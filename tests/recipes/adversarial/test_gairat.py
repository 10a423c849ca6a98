"""GAIRAT's weights."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacked import assert_same, batch, heard, network
from poise import Batch, Outcome, RecipeStack, Step, Threat
from poise.rules import Refusal
from poise_recipes import GAIRAT, Trades
from poise_recipes.adversarial.gairat import geometry_weight

MODEL = network()


def weights(
    kappa: list[float], target: torch.Tensor | None = None, shift: float = -1.0, progress: float = 1.0
) -> torch.Tensor:
    """Those of the stack for a batch with these shares of hits."""
    stack, n = RecipeStack([GAIRAT(shift)]), len(kappa)
    b = Batch.of(torch.rand(n, 5, dtype=torch.float64), torch.zeros(n, dtype=torch.long), 4)
    b = b.replace(kappa=torch.tensor(kappa, dtype=torch.float64))
    b = b if target is None else b.replace(target=target)
    found = stack.weights(Outcome(torch.ones(n, dtype=torch.float64)), b, Step(MODEL, stack, progress=progress))
    assert found is not None
    return found


def test_the_published_weights_of_ten_steps() -> None:
    kappa = torch.arange(11, dtype=torch.float64) / 10
    expected = torch.tensor([0.9997, 0.9975, 0.982, 0.881, 0.5, 0.119, 0.018, 0.0025, 0.0003, 0, 0]).double()
    torch.testing.assert_close(geometry_weight(kappa, -1.0), expected, rtol=0, atol=5e-4)
    assert (geometry_weight(kappa, math.inf) == 1).all()


@given(st.lists(st.integers(0, 10), min_size=2, max_size=12), st.floats(-5, 5), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_weights_average_to_one_whatever_the_order(hits: list[int], shift: float, seed: int) -> None:
    kappa = [hit / 10 for hit in hits]
    found = weights(kappa, shift=shift)
    raw = torch.tensor([(1 + math.tanh(shift + 5 * (1 - 2 * k))) / 2 for k in kappa], dtype=torch.float64)
    assert abs(float(found.mean()) - 1) < 1e-9
    assert not found.requires_grad
    if raw.mean() > 1e-9:  # below, 1 + tanh has no digits left
        torch.testing.assert_close(found, raw / raw.mean(), rtol=1e-6, atol=1e-9)
    order = torch.randperm(len(kappa), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(weights([kappa[i] for i in order], shift=shift), found[order])


def test_all_weigh_alike_until_the_burn_in_is_over() -> None:
    kappa = [0.0, 0.5, 1.0]
    assert torch.equal(weights(kappa, progress=0.49), torch.ones(3, dtype=torch.float64))
    assert weights(kappa, progress=0.5)[0] > 1.9


def test_an_example_between_two_classes_weighs_as_the_average() -> None:
    target = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0.75, 0.25, 0, 0]]).double()
    found = weights([0.0, 0.6, 0.0, 0.0], target)
    high, low = ((1 + math.tanh(-1 + 5 * (1 - 2 * kappa))) / 2 for kappa in (0.0, 0.6))
    average = (high + low + 0.5 * high) / 2.5
    expected = torch.tensor([high / average, low / average, 1.0, 0.5 + 0.5 * high / average]).double()
    torch.testing.assert_close(found, expected)
    halves = torch.tensor([[0.5, 0.5, 0, 0]] * 2).double()
    assert torch.equal(weights([0.0, 1.0], halves), torch.ones(2, dtype=torch.float64))


def test_the_hits_are_those_of_the_attack_it_brings() -> None:
    b, (values, log) = batch().replace(x_adv=None), heard()
    stack = RecipeStack([GAIRAT(burn_in=0.0)])
    assert set(stack.names) == {"gairat", "pgd_at", "pgd"}
    step = Step(MODEL, stack, threat=Threat("linf", 0.3), log=log)
    b = stack.attack(b, step)
    assert b.kappa is not None
    losses = -(MODEL(b.attacked).log_softmax(1) * b.target).sum(1)
    raw = (1 + torch.tanh(-1 + 5 * (1 - 2 * b.kappa))) / 2
    assert_same(MODEL, stack.loss(b, step)(), (raw / raw.mean() * losses).mean())
    assert values["gairat/kappa"] == pytest.approx(float(b.kappa.mean()))
    assert 0 < values["gairat/kappa"] < 1


def test_on_trades_the_attack_is_that_of_trades() -> None:
    assert RecipeStack([GAIRAT(), Trades()]).members["pgd"].start == "normal"
    assert RecipeStack([GAIRAT()]).members["pgd"].start == "uniform"


def test_an_attack_that_heard_no_logits_is_refused() -> None:
    stack = RecipeStack([GAIRAT()])
    with pytest.raises(Refusal, match="gairat needs `kappa`, which an attack reads off the model's passes") as refusal:
        stack.weights(Outcome(torch.ones(6, dtype=torch.float64)), batch(), Step(MODEL, stack))
    assert refusal.value.reason == "unmet need"
