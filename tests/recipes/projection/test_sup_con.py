"""Supervised contrast against its formula written out again."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poise import Batch, RecipeStack, Step, Task
from poise.data.augmentation import Augmentation
from poise.distributed import current_ranks
from poise.models.mlp import mlp
from poise_recipes import Mixup, SupCon
from poise_recipes.projection.sup_con import supervised_contrast
from ranks import Pair

C = 3


def on_the_sphere(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, 4, generator=generator, dtype=torch.float64), dim=1)


def equation_2(z: Tensor, label: list[int], temperature: float) -> list[float]:
    """The loss of each anchor, with loops and exponentials."""
    losses = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        total = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in others)
        positives = [p for p in others if label[p] == label[i]]
        logs = [math.log(math.exp(float(z[i] @ z[p]) / temperature) / total) for p in positives]
        losses.append(-sum(logs) / len(logs) if logs else 0.0)
    return losses


@given(
    label=st.lists(st.integers(0, C - 1), min_size=2, max_size=9),
    temperature=st.floats(0.05, 2),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_hard_targets_give_equation_2(label: list[int], temperature: float, seed: int) -> None:
    z, target = on_the_sphere(len(label), seed), torch.eye(C, dtype=torch.float64)[label]
    found = supervised_contrast(z, target, z, target, torch.arange(len(label)), temperature)
    expected = torch.tensor(equation_2(z, label, temperature), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_soft_targets_give_soft_positives() -> None:
    z = on_the_sphere(7)
    target = torch.rand(7, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(1)
    found = supervised_contrast(z, target, z, target, torch.arange(7), 0.2)
    for i, loss in enumerate(found.tolist()):
        others = [a for a in range(7) if a != i]
        total = sum(math.exp(float(z[i] @ z[a]) / 0.2) for a in others)
        weights = [float(target[i] @ target[a]) for a in others]
        logs = [float(z[i] @ z[a]) / 0.2 - math.log(total) for a in others]
        expected = -sum(w * log for w, log in zip(weights, logs, strict=True)) / sum(weights)
        assert loss == pytest.approx(expected, abs=1e-6)


def test_it_is_computed_in_single_precision_under_autocast() -> None:
    z, target = on_the_sphere(8).float(), torch.eye(C)[[0, 1, 2, 0, 1, 2, 0, 1]]
    exact = supervised_contrast(z, target, z, target, torch.arange(8), 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(supervised_contrast(z, target, z, target, torch.arange(8), 0.1), exact)


class Negative(Augmentation):
    """Every picture's negative, or not, as chance has it."""

    draws = 1

    def apply(self, x: Tensor, u: Tensor) -> Tensor:
        return torch.where(u[:, :, None, None] < 0.5, x, 1 - x)


def prepared(augmenting: bool = True, *others: Mixup) -> tuple[RecipeStack, Batch, Step]:
    torch.manual_seed(0)
    model = mlp(C, (1, 2, 3), width=8)
    stack = RecipeStack([SupCon(width=5), *others])
    stack.setup(Task(C, feature_width=model.feature_width), model)
    model.double()
    stack.double()
    x = torch.rand(8, 1, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    batch = Batch.of(x, torch.arange(8) % C, C, raw=x if augmenting else None, index=torch.arange(8))
    augment = {"negative": Negative()} if augmenting else {}
    return stack, batch, Step(model, stack, augment=augment)


def test_the_contrast_is_over_both_views_and_the_head_learns_from_the_labels() -> None:
    stack, batch, step = prepared()
    mixed = stack.mix(batch, step)
    assert len(mixed.views) == 1
    assert not torch.equal(mixed.views[0], mixed.x)
    outcome = stack.objective(mixed, step)
    member = stack.members["sup_con"]
    with torch.no_grad():
        features = torch.cat([step.model.run(x).features for x in (mixed.x, mixed.views[0])])
        z = torch.nn.functional.normalize(member.projection(features), dim=1)
    by_anchor = torch.tensor(equation_2(z, batch.label.tolist() * 2, 0.1), dtype=torch.float64)
    contrast = by_anchor.view(2, 8).mean(0)
    label_loss = torch.nn.functional.cross_entropy(step.model(mixed.x), batch.label, reduction="none")
    torch.testing.assert_close(outcome.terms["contrast"], contrast, rtol=0, atol=1e-6)
    torch.testing.assert_close(outcome.loss, contrast + label_loss, rtol=0, atol=1e-6)


def test_labels_train_the_head_alone_and_the_contrast_all_else() -> None:
    stack, batch, step = prepared()
    outcome = stack.objective(stack.mix(batch, step), step)
    head, backbone = list(step.model.head.parameters()), list(step.model.backbone.parameters())
    projection = list(stack.members["sup_con"].parameters())
    for term, trained, left in (
        ("label_loss", head, [*backbone, *projection]),
        ("contrast", [*backbone, *projection], head),
    ):
        value = outcome.terms[term].mean()
        reached = torch.autograd.grad(value, [*trained, *left], allow_unused=True, retain_graph=True)
        assert all(gradient is not None for gradient in reached[: len(trained)])
        assert all(gradient is None for gradient in reached[len(trained) :])


def test_without_augmentation_both_views_are_the_same() -> None:
    stack, batch, step = prepared(augmenting=False)
    assert stack.mix(batch, step).views[0] is batch.x


def test_a_mixer_mixes_both_views_alike() -> None:
    stack, batch, step = prepared(True, Mixup())
    mixed, view = stack.mix(batch, step), step.bound("sup_con").view(batch, "view")
    own, partner = mixed.share[:, :1, None, None], mixed.parents[:, 1]
    torch.testing.assert_close(mixed.views[0], own * view + (1 - own) * view[partner])


def gradients() -> list[Tensor]:
    """The mean over ranks of the gradients from their shares of a batch of four blocks."""
    stack, batch, step = prepared()
    ranks = current_ranks()
    rows = torch.arange(8).chunk(ranks.size)[ranks.rank]
    known = {"raw": batch.x[rows], "index": rows}
    mine = Batch.of(batch.x[rows], batch.label[rows], C, **known)
    step = step.replace(ranks=ranks, block=2, first_block=int(rows[0]) // 2)
    loss = stack.loss(stack.mix(mine, step), step)()
    weights = [*step.model.parameters(), *stack.parameters()]
    return [ranks.mean(gradient) for gradient in torch.autograd.grad(loss, weights)]


def test_two_ranks_see_the_views_and_keys_of_one(pair: Pair) -> None:
    alone = gradients()
    for of_rank in pair.run(gradients):
        for one, other in zip(alone, of_rank, strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-12)
