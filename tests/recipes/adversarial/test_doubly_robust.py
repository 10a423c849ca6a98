"""The weights of doubly robust training, and the function whose gradient they give."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attacked import assert_same, batch, heard, network
from poise import Batch, Outcome, RecipeStack, Step
from poise_recipes import DoublyRobust, Trades

MODEL = network()
LOSSES = st.lists(st.floats(0, 50), min_size=2, max_size=12)


def weights(losses: list[float], progress: float = 1.0, **parameters: float) -> Tensor:
    """Those of the stack for examples of one class with these losses."""
    stack, n = RecipeStack([DoublyRobust(**parameters)]), len(losses)
    b = Batch.of(torch.rand(n, 5, dtype=torch.float64), torch.zeros(n, dtype=torch.long), 4)
    found = stack.weights(Outcome(torch.tensor(losses, dtype=torch.float64)), b, Step(MODEL, stack, progress=progress))
    assert found is not None
    return found


@pytest.mark.parametrize("temperature", [0.3, 2.0])
@pytest.mark.parametrize("soft", [False, True])
def test_the_gradient_is_that_of_the_worst_distributions_loss(temperature: float, soft: bool) -> None:
    b = batch(soft=soft)
    stack = RecipeStack([DoublyRobust(temperature, largest=1e9, burn_in=0), Trades()])
    step = Step(MODEL, stack)
    loss = stack.loss(b, step)()
    excess = stack.objective(b, step).loss + (b.target * b.target.log().nan_to_num(neginf=0)).sum(1)
    worst = temperature * (excess / temperature).exp().mean().log()
    assert_same(MODEL, loss - loss.detach(), worst - worst.detach())


@given(LOSSES, st.floats(0.05, 20), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_weights_average_to_one_whatever_the_order(losses: list[float], temperature: float, seed: int) -> None:
    found = weights(losses, temperature=temperature, largest=1e9)
    top = max(losses)
    raw = torch.tensor([math.exp((loss - top) / temperature) for loss in losses], dtype=torch.float64)
    torch.testing.assert_close(found, raw / raw.mean(), rtol=1e-9, atol=1e-12)
    assert not found.requires_grad
    order = torch.randperm(len(losses), generator=torch.Generator().manual_seed(seed)).tolist()
    turned = weights([losses[i] for i in order], temperature=temperature, largest=1e9)
    torch.testing.assert_close(turned, found[order], rtol=1e-9, atol=1e-12)


@given(LOSSES, st.floats(1, 10))
@settings(max_examples=30, deadline=None)
def test_no_example_weighs_more_than_the_largest_weight_says(losses: list[float], largest: float) -> None:
    found = weights(losses, temperature=0.5, largest=largest)
    capped = weights(losses, temperature=0.5, largest=1e9).clamp(max=largest)
    torch.testing.assert_close(found, capped / capped.mean())


def test_a_high_temperature_and_the_burn_in_weigh_all_alike() -> None:
    losses = [0.0, 1.0, 7.0]
    torch.testing.assert_close(weights(losses, temperature=1e8), torch.ones(3).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(weights(losses, progress=0.49), torch.ones(3).double(), rtol=0, atol=1e-12)
    assert weights(losses, progress=0.5)[2] > 2


def test_a_loss_that_cannot_be_lower_counts_as_none() -> None:
    b = batch(soft=True)
    b = b.replace(target=torch.cat([torch.eye(4).double()[:1], b.target[1:]]))
    floor = -(b.target * b.target.log().nan_to_num(neginf=0)).sum(1)
    stack = RecipeStack([DoublyRobust(0.1, burn_in=0)])
    found = stack.weights(Outcome(floor), b, Step(MODEL, stack))
    torch.testing.assert_close(found, torch.ones_like(floor))


def test_the_effective_share_of_the_batch_is_logged() -> None:
    values, log = heard()
    stack, b = RecipeStack([DoublyRobust(0.01, burn_in=0)]), batch()
    for losses, share in (([1.0] * 6, 1.0), ([0, 0, 0, 0, 0, 9.0], 1 / 6), ([0, 0, 0, 9.0, 9, 9], 1 / 2)):
        stack.weights(Outcome(torch.tensor(losses).double()), b, Step(MODEL, stack, log=log))
        assert values["doubly_robust/effective_share"] == pytest.approx(share)


def test_it_brings_adversarial_training_unless_another_objective_is_there() -> None:
    assert set(RecipeStack([DoublyRobust()]).names) == {"doubly_robust", "pgd_at", "pgd"}
    assert set(RecipeStack([DoublyRobust(), Trades()]).names) == {"doubly_robust", "trades", "pgd"}
