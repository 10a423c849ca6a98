"""Domain-adversarial training."""

import math
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Passes, Recipe, Task
from poise.step import Step


class TinyDann(Recipe):
    """A discriminator tells labelled from unlabelled features [B, D]; the model learns to mislead it.

    The learning rate falls as (1 + 10p)^-0.75 with the run's progress p, and the reversed gradient grows as
    2/(1 + exp(-10p)) - 1.

    Source: Ganin et al., Domain-Adversarial Training of Neural Networks, 2016, arXiv 1505.07818.
    """

    paper = "Ganin et al., Domain-Adversarial Training of Neural Networks, 2016, arXiv 1505.07818"
    needs: ClassVar[frozenset[str]] = frozenset({"unlabelled", "features"})

    def passes(self) -> Passes:
        return Passes(forwards=1, full_backwards=1)

    def setup(self, task: Task, model: Classifier) -> None:
        self.discriminator = nn.Linear(model.feature_width, 1)

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""]:
        unlabelled = batch.streams["unlabelled"]
        strength = 2 / (1 + math.exp(-10 * step.progress)) - 1
        domains = (outcome.on.features, step.forward(unlabelled.x, unlabelled).features)
        source, target = (self.discriminator(reversed_gradient(f, strength)) for f in domains if f is not None)
        return (F.softplus(-source).mean() + F.softplus(target).mean()) / 2

    def lr_factor(self, step: Step) -> float:
        return float((1 + 10 * step.progress) ** -0.75)


def reversed_gradient(h: Float[Tensor, "B D"], strength: float) -> Float[Tensor, "B D"]:
    """h itself, whose gradient comes back times -strength."""
    return -strength * h + ((1 + strength) * h).detach()
