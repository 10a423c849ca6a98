"""Targets against group means and neighbourhoods with loops, and the epochs that have them."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attacked import CLASSES, batch, network
from poise import Predictions, RecipeStack, Refusal, Step, Task
from poise.distributed import current_ranks
from poise.losses import soft_cross_entropy
from poise.models.mlp import mlp
from poise_recipes import CaPE, LabelSmoothing, Mixup
from poise_recipes.confidence.cape import bin_means, estimated, kernel_means
from ranks import Pair

SIZE = 23


def split(seed: int = 0, size: int = SIZE) -> Predictions:
    keyed = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, CLASSES, generator=keyed, dtype=torch.float64)
    label = torch.randint(CLASSES, (size,), generator=keyed)
    return Predictions(logits, None, label, None, torch.arange(size))


def ready(recipe: CaPE, *others: LabelSmoothing, epochs: int = 12) -> RecipeStack:
    stack = RecipeStack([*others, recipe])
    stack.setup(Task(CLASSES, num_train=SIZE, epochs=epochs), mlp(CLASSES, (5,)))
    return stack


def at(stack: RecipeStack, epoch: int, seen: Predictions) -> Step:
    return Step(network(), stack, epoch=epoch, predict={"train": seen}.__getitem__)


def groups_by_hand(p: list[float], y: list[float], bins: int) -> list[float]:
    order = sorted(range(len(p)), key=lambda i: p[i])
    found = [0.0] * len(p)
    for b in range(bins):
        group = order[b * len(p) // bins : (b + 1) * len(p) // bins]
        for i in group:
            found[i] = sum(y[j] for j in group) / len(group)
    return found


def neighbours_by_hand(p: list[float], y: list[float], reach: int, width: float) -> list[float]:
    order = sorted(range(len(p)), key=lambda i: p[i])
    found = [0.0] * len(p)
    for place, i in enumerate(order):
        near = order[max(0, place - reach) : place + reach]
        weight = [math.exp(-((p[i] - p[j]) ** 2) / (2 * width**2)) for j in near]
        found[i] = sum(w * y[j] for w, j in zip(weight, near, strict=True)) / sum(weight)
    return found


def normalised(columns: list[list[float]]) -> Tensor:
    table = torch.tensor(columns, dtype=torch.float64).T
    return table / table.sum(1, keepdim=True)


@pytest.mark.parametrize("bins", [1, 5, 7])
def test_targets_are_the_means_of_groups(bins: int) -> None:
    seen = split()
    p, y = seen.logits.softmax(1), torch.eye(CLASSES, dtype=torch.float64)[seen.label]
    columns = [groups_by_hand(p[:, c].tolist(), y[:, c].tolist(), bins) for c in range(CLASSES)]
    found = estimated(p, y, partial(bin_means, bins=bins))
    possible = torch.tensor(columns).sum(0) > 0
    torch.testing.assert_close(found[possible], normalised(columns)[possible])
    assert torch.equal(found[~possible], y[~possible])


@pytest.mark.parametrize(("reach", "width"), [(1, 0.05), (4, 0.3), (100, 0.05)])
def test_targets_are_the_means_of_neighbourhoods(reach: int, width: float) -> None:
    seen = split()
    p, y = seen.logits.softmax(1), torch.eye(CLASSES, dtype=torch.float64)[seen.label]
    columns = [neighbours_by_hand(p[:, c].tolist(), y[:, c].tolist(), reach, width) for c in range(CLASSES)]
    found = estimated(p, y, partial(kernel_means, reach=reach, width=width))
    torch.testing.assert_close(found, normalised(columns))


@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_targets_are_distributions_and_groups_of_one_keep_the_labels(seed: int, size: int, many: int) -> None:
    keyed = torch.Generator().manual_seed(seed)
    p = torch.randn(size, 3, generator=keyed, dtype=torch.float64).softmax(1)
    y = torch.eye(3, dtype=torch.float64)[torch.randint(3, (size,), generator=keyed)]
    for estimate in (partial(bin_means, bins=many), partial(kernel_means, reach=many, width=0.1)):
        found = estimated(p, y, estimate)
        assert (found >= 0).all()
        torch.testing.assert_close(found.sum(1), torch.ones(size, dtype=torch.float64))
    assert torch.equal(estimated(p, y, partial(bin_means, bins=size)), y)
    torch.testing.assert_close(estimated(p, y, partial(bin_means, bins=1)), y.mean(0).expand(size, -1))


@pytest.mark.parametrize(
    ("start", "every", "soft"),
    [(0.0, 3, [0, 3, 6, 9]), (0.0, 4, [0, 4, 8]), (0.5, 3, [6, 9]), (0.7, 1, [9, 10, 11]), (1.0, 3, [])],
)
def test_the_epochs_that_have_these_targets(start: float, every: int, soft: list[int]) -> None:
    stack, b = ready(CaPE(start, every)), batch().replace(index=torch.arange(6))
    found = []
    for epoch in range(12):
        step = at(stack, epoch, split(epoch))
        stack.on_epoch_start(step)
        _, target = step.adjusted(b.target, b)
        if not torch.equal(target, b.target):
            found.append(epoch)
            p, y = split(epoch).logits.softmax(1), torch.eye(CLASSES, dtype=torch.float64)[split(epoch).label]
            expected = estimated(p, y, partial(bin_means, bins=5 * CLASSES // 2))[:6]
            torch.testing.assert_close(target, expected, rtol=0, atol=1e-7)
    assert found == soft


def test_mixed_examples_have_the_targets_of_their_parents_by_their_shares() -> None:
    stack = ready(CaPE(0.0, estimate="kernel"))
    b = Mixup().mix(batch().replace(index=torch.arange(6)), Step(network()))
    step = at(stack, 0, split())
    stack.on_epoch_start(step)
    _, target = step.adjusted(b.target, b)
    table = dict(stack.items())["cape"].get_buffer("table").double()
    parents, share = b.lineage()
    expected = sum(share[:, k, None] * table[parents[:, k]] for k in range(parents.shape[1]))
    torch.testing.assert_close(target, expected)


def test_its_targets_are_smoothed_whatever_the_order_given() -> None:
    stack, b = ready(CaPE(0.0), LabelSmoothing(0.2)), batch().replace(index=torch.arange(6))
    step, model = at(stack, 0, split()), network()
    stack.on_epoch_start(step)
    table = dict(stack.items())["cape"].get_buffer("table").double()
    expected = soft_cross_entropy(model(b.x), 0.8 * table[:6] + 0.2 / CLASSES).mean()
    torch.testing.assert_close(stack.loss(b, step)(), expected)


def table_of(estimate: str) -> Tensor:
    """In a rank process: the table after a look at a split of which each rank predicts a half."""
    from poise.data.dataset import Arrays
    from poise.predictions import predict

    keyed = torch.Generator().manual_seed(0)
    data = Arrays(torch.rand(SIZE, 5, generator=keyed), torch.arange(SIZE) % CLASSES)
    stack = ready(CaPE(0.0, estimate=estimate))  # type: ignore[arg-type]
    torch.manual_seed(0)
    model, ranks = mlp(CLASSES, (5,)).double(), current_ranks()
    stack.on_epoch_start(Step(model, stack, ranks=ranks, predict=lambda name: predict(model, data, ranks)))
    return dict(stack.items())["cape"].get_buffer("table")


@pytest.mark.parametrize("estimate", ["bins", "kernel"])
def test_two_ranks_have_the_table_of_one(pair: Pair, estimate: str) -> None:
    first, second = pair.run(table_of, estimate)
    assert torch.equal(first, second)
    assert torch.equal(first, table_of(estimate))


def test_it_is_refused_where_examples_have_no_numbers() -> None:
    with pytest.raises(Refusal, match="index"):
        RecipeStack([CaPE()]).require({"predict"})
