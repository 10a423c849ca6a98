"""Separation and deferred weights against their formulas."""

import math

import pytest
import torch
from torch import Tensor, nn

from poise import Batch, Outcome, RecipeStack, Refusal, Step, Task, Threat
from poise.config import parse
from poise.distributed import current_ranks
from poise.models.classifier import Classifier, Output
from poise_recipes import SRAT, ClassBalanced, Mixup, Trades
from ranks import Pair

COUNTS = [500, 30, 2]


def model() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), nn.Linear(4, 3)).double()


def batch(label: list[int]) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(len(label), 5, dtype=torch.float64, generator=generator)
    return Batch.of(x, torch.tensor(label), 3, index=torch.arange(len(label)))


def stack(recipe: SRAT, counts: list[int] | None = None) -> RecipeStack:
    made = RecipeStack([recipe])
    made.setup(Task(3, class_counts=torch.tensor(counts or COUNTS)), model())
    return made


def outcome(features: Tensor) -> Outcome:
    return Outcome(features.new_ones(len(features)), adv=Output(features.new_zeros(len(features), 3), features))


def separation(features: Tensor, target: Tensor, tau: float) -> float:
    """The mean over anchors with positives, with loops."""
    z = (features / features.norm(dim=1, keepdim=True)).tolist()
    found = []
    for i, (anchor, own) in enumerate(zip(z, target.tolist(), strict=True)):
        others = [a for a in range(len(z)) if a != i]
        scores = {a: sum(p * q for p, q in zip(anchor, z[a], strict=True)) / tau for a in others}
        total = math.log(sum(math.exp(score) for score in scores.values()))
        affinity = {a: sum(p * q for p, q in zip(own, target[a].tolist(), strict=True)) for a in others}
        if sum(affinity.values()):
            found.append(-sum(affinity[a] * (scores[a] - total) for a in others) / sum(affinity.values()))
    return sum(found) / max(len(found), 1)


@pytest.mark.parametrize("label", [[0, 0, 1, 1, 2], [0, 1, 2], [0, 0, 0, 0], [2, 1, 1]])
def test_hard_targets_give_the_formula(label: list[int]) -> None:
    b, features = batch(label), torch.randn(len(label), 4, dtype=torch.float64)
    recipe = SRAT(separation=0.7, temperature=0.3)
    found = recipe.penalty(outcome(features), b, Step(model()))
    assert float(found) == pytest.approx(0.7 * separation(features, b.target, 0.3), abs=1e-9)


def test_mixed_targets_are_positives_in_part() -> None:
    b = Mixup().mix(batch([0, 1, 2, 0, 1, 0]), Step(model()))
    features = torch.randn(6, 4, dtype=torch.float64)
    found = SRAT().penalty(outcome(features), b, Step(model()))
    assert float(found) == pytest.approx(separation(features, b.target, 0.1), abs=1e-9)
    scaled = SRAT().penalty(outcome(5 * features), b, Step(model()))
    torch.testing.assert_close(scaled, found)


def shared(label: list[int], features: Tensor) -> tuple[Tensor, Tensor]:
    """In a rank process: this rank's penalty and its gradient, for its half of the rows."""
    ranks = current_ranks()
    half = len(label) // 2
    rows = slice(ranks.rank * half, (ranks.rank + 1) * half)
    own = features[rows].clone().requires_grad_()
    b = batch(label[rows])
    value = SRAT().penalty(outcome(own), b, Step(model(), ranks=ranks))
    (gradient,) = torch.autograd.grad(value, own)
    return value.detach(), gradient


def test_two_ranks_find_what_one_finds(pair: Pair) -> None:
    label = [0, 1, 2, 0, 0, 1]  # anchors with positives on the other rank alone, and one without any
    features = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    value = SRAT().penalty(outcome(features), batch(label), Step(model()))
    (gradient,) = torch.autograd.grad(value, features)
    (first, g0), (second, g1) = pair.run(shared, label, features.detach())
    torch.testing.assert_close((first + second) / 2, value.detach())
    torch.testing.assert_close(torch.cat([g0, g1]) / 2, gradient)


def test_classes_are_weighed_late_and_then_by_their_effective_number() -> None:
    b = batch([0, 0, 1, 2])
    made = stack(SRAT(beta=0.9999, defer=0.8))
    early = made.weights(outcome(b.x), b, Step(model(), progress=0.79))
    late = made.weights(outcome(b.x), b, Step(model(), progress=0.8))
    number = torch.tensor([(1 - 0.9999**n) / (1 - 0.9999) for n in COUNTS], dtype=torch.float64)
    expected = (1 / number)[b.label]
    assert early is None
    assert late is not None
    torch.testing.assert_close(late, expected * 3 / (1 / number).sum())


def test_equal_classes_and_no_separation_are_adversarial_training() -> None:
    b, threat = batch([0, 1, 2, 0]), Threat("linf", 0.1)
    made = stack(SRAT(separation=0.0, defer=0.0), [7, 7, 7])
    step = Step(network := model(), made, threat=threat)
    attacked = made.attack(b, step)
    plain = nn.functional.cross_entropy(network(attacked.attacked), b.label)
    torch.testing.assert_close(made.loss(attacked, step)(), plain)


def test_it_brings_adversarial_training_where_nobody_has_an_objective() -> None:
    assert set(RecipeStack([SRAT()]).names) == {"srat", "pgd_at", "pgd"}
    assert set(parse(["recipe=trades,srat"]).recipe) == {"trades", "pgd", "srat"}
    with pytest.raises(Refusal, match="class_prior"):
        RecipeStack([Trades(), SRAT(), ClassBalanced()])
