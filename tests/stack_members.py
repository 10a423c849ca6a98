"""Recipes with a hook or two each, to put stacks together from; batches and a model for them."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Passes, Recipe
from poise.stack import RecipeStack
from poise.step import Step

ROWS, CLASSES = 6, 3


def batch() -> Batch:
    x = torch.rand(ROWS, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Batch.of(x, torch.arange(ROWS) % CLASSES, CLASSES, index=torch.arange(ROWS))


def model() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        norm = nn.BatchNorm1d(4)
        return Classifier(nn.Sequential(nn.Linear(5, 4), norm, nn.ReLU()), nn.Linear(4, CLASSES)).double()


def step(stack: RecipeStack, **named: Any) -> Step:
    return Step(model(), stack, **named)


def outcome(rows: int = ROWS) -> Outcome:
    return Outcome(torch.arange(1.0, rows + 1, dtype=torch.float64))


class Weights(Recipe):
    """Gives the weights it was made with."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights
        self.calls = 0

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        self.calls += 1
        return self.weights


class Absolute(Weights):
    relative: ClassVar[bool] = False


class Objective(Recipe):
    def objective(self, batch: Batch, step: Step) -> Outcome:
        adv = step.forward(batch.x, batch)
        return Outcome(2 * step.loss(adv.logits, batch), adv=adv)


class Second(Recipe):
    def objective(self, batch: Batch, step: Step) -> Outcome:
        return Outcome(batch.x.sum(1))


class Attack(Recipe):
    provides: ClassVar[frozenset[str]] = frozenset({"attack"})

    def __init__(self, size: float = 0.5) -> None:
        super().__init__()
        self.size = size

    def attack(self, batch: Batch, step: Step) -> Batch:
        return batch.replace(x_adv=batch.x + self.size)

    def passes(self) -> Passes:
        return Passes(forwards=3, input_backwards=3)


class Needs(Recipe):
    needs: ClassVar[frozenset[str]] = frozenset({"attack"})
    collectives: ClassVar[int] = 2


class WantsClean(Recipe):
    needs: ClassVar[frozenset[str]] = frozenset({"clean"})

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        assert outcome.clean is not None
        return outcome.clean.logits.square().mean()


class Up(Recipe):
    """Moves every weight by its gradient."""

    collectives: ClassVar[int] = 1

    def passes(self) -> Passes:
        return Passes(loss_evaluations=1)

    def perturb_weights(self, gradient: Callable[[], dict[str, Tensor]], step: Step) -> Mapping[str, Tensor]:
        self.gradient = gradient()
        return {name: 0.5 * g for name, g in self.gradient.items()}


class Added(Recipe):
    collectives: ClassVar[int] = 3

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        return outcome.loss.new_tensor(self.value)
