"""GroupDRO's shares and weights."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import Batch, Outcome, RecipeStack, Step, Task
from poise.models.classifier import Classifier
from poise_recipes import GroupDRO

MODEL = Classifier(nn.Linear(2, 2), nn.Identity())


def dro(groups: int, eta: float, adjustment: float = 0.0, counts: list[int] | None = None) -> RecipeStack:
    stack = RecipeStack([GroupDRO(eta, adjustment)])
    group_counts = None if counts is None else torch.tensor(counts)
    stack.setup(Task(2, num_groups=groups, group_counts=group_counts), MODEL)
    return stack


def batch(group: list[int]) -> Batch:
    n = len(group)
    return Batch.of(torch.rand(n, 2), torch.zeros(n, dtype=torch.long), 2, group=torch.tensor(group))


def test_shares_follow_algorithm_1() -> None:
    stack, eta = dro(3, 0.5), 0.5
    q = [1 / 3] * 3
    for losses, group in [([1.0, 3.0, 2.0, 0.5], [0, 0, 1, 2]), ([4.0, 1.0, 1.0, 1.0], [2, 1, 1, 0])]:
        weight = stack.weights(Outcome(torch.tensor(losses)), batch(group), Step(MODEL, stack))
        means = [[v for v, g in zip(losses, group, strict=True) if g == k] for k in range(3)]
        q = [p * math.exp(eta * sum(m) / len(m)) for p, m in zip(q, means, strict=True)]
        q = [p / sum(q) for p in q]
        raw = [q[g] / group.count(g) for g in group]
        expected = torch.tensor([w * len(raw) / sum(raw) for w in raw])
        torch.testing.assert_close(weight, expected)


@given(
    losses=st.lists(st.floats(0, 20), min_size=2, max_size=12),
    eta=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_weights_average_to_one_and_shares_to_a_distribution(losses: list[float], eta: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    group = torch.randint(0, 4, (len(losses),), generator=g).tolist()
    stack = dro(4, eta)
    weight = stack.weights(Outcome(torch.tensor(losses)), batch(group), Step(MODEL, stack))
    assert (weight >= 0).all()
    assert abs(weight.mean().item() - 1) < 1e-5
    assert abs(stack.members["group_dro"].log_q.exp().sum().item() - 1) < 1e-9


def test_eta_zero_is_the_mean_of_group_means() -> None:
    stack, losses, group = dro(2, 0.0), torch.tensor([1.0, 2.0, 6.0]), [0, 0, 1]
    weight = stack.weights(Outcome(losses), batch(group), Step(MODEL, stack))
    assert abs((weight * losses).mean().item() - (1.5 + 6.0) / 2) < 1e-6


def test_the_adjustment_favours_small_groups() -> None:
    stack = dro(2, 0.1, adjustment=5.0, counts=[100, 4])
    weight = stack.weights(Outcome(torch.ones(2)), batch([0, 1]), Step(MODEL, stack))
    ratio = math.exp(0.1 * (5 / 2 - 5 / 10))
    assert abs((weight[1] / weight[0]).item() - ratio) < 1e-5
