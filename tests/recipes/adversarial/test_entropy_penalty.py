"""The entropy penalty in both directions."""

import math
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacked import CLASSES, assert_same, batch, network
from poise import RecipeStack, Step
from poise_recipes import PGDAT, EntropyPenalty, Trades
from poise_recipes.adversarial.entropy_penalty import entropy

Goal = Literal["lower_entropy", "raise_entropy"]
GOALS: list[tuple[Goal, int]] = [("lower_entropy", 1), ("raise_entropy", -1)]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("goal", "sign"), GOALS)
def test_the_entropy_of_attacked_predictions_is_added_or_taken_away(goal: Goal, sign: int, soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack, host = RecipeStack([Trades(), EntropyPenalty(goal, 0.3)]), RecipeStack([Trades()])
    p = torch.exp(model(b.attacked)) / torch.exp(model(b.attacked)).sum(1, keepdim=True)
    expected = host.loss(b, Step(model, host))() + sign * 0.3 * -(p * p.log()).sum(1).mean()
    assert_same(model, stack.loss(b, Step(model, stack))(), expected)


@pytest.mark.parametrize(("goal", "sign"), GOALS)
def test_a_step_moves_the_entropy_where_the_goal_says(goal: Goal, sign: int) -> None:
    model, b = network(), batch()
    stack = RecipeStack([EntropyPenalty(goal, 1.0)])
    penalty = stack.penalty(stack.objective(b, Step(model, stack)), b, Step(model, stack))["entropy_penalty"]
    before = entropy(model(b.x)).mean()
    with torch.no_grad():
        for weight, slope in zip(
            model.parameters(), torch.autograd.grad(penalty, list(model.parameters())), strict=True
        ):
            weight -= 0.1 * slope
    assert sign * (entropy(model(b.x)).mean() - before) < -1e-4


def test_no_weight_leaves_the_host_as_it_is() -> None:
    model, b = network(), batch()
    stack, host = RecipeStack([PGDAT(), EntropyPenalty(weight=0.0)]), RecipeStack([PGDAT()])
    assert_same(model, stack.loss(b, Step(model, stack))(), host.loss(b, Step(model, host))())


@given(st.lists(st.floats(-500, 500), min_size=CLASSES, max_size=CLASSES), st.permutations(range(CLASSES)))
@settings(max_examples=50, deadline=None)
def test_entropy_is_between_none_and_that_of_all_alike(logits: list[float], order: list[int]) -> None:
    given_logits = torch.tensor([logits], dtype=torch.float32, requires_grad=True)
    found = entropy(given_logits)
    assert -1e-6 <= found.item() <= math.log(CLASSES) + 1e-5
    torch.testing.assert_close(entropy(given_logits[:, order]), found)
    assert torch.autograd.grad(found.sum(), given_logits)[0].isfinite().all()


def test_all_alike_have_the_greatest_entropy_and_one_alone_none() -> None:
    assert entropy(torch.full((1, 8), 3.0)).item() == pytest.approx(math.log(8))
    assert entropy(torch.tensor([[1e4, 0.0, -1e4]])).item() == 0
