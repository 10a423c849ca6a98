"""Adversarial training of a classifier that is smoothed with Gaussian noise."""

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, InnerLoss, Outcome
from poise.losses import soft_cross_entropy
from poise.recipe import Passes, Recipe
from poise.step import Step


class SmoothAdv(Recipe):
    """Train on the worst inputs of the smoothed classifier: ℓ = (1/m)·Σᵢ CE(f(x' + σ·nᵢ), t), with nᵢ ~ N(0, I).

    The loss is per example [B], for inputs [B, *input] and targets [B, C], soft ones too. x' maximises, inside the
    threat, J(x') = -Σₖ tₖ·log (1/m)·Σᵢ softmax(f(x' + σ·nᵢ))ₖ with the same m noises at every step of the attack as in
    the loss; they are never clipped. With m = 1 that is the cross-entropy in one noise. Certificates are ℓ2
    (evaluation=certify, of the same σ), so threat=l2 fits, with an eps such as 0.25, 0.5 or 1 on pictures in [0, 1].
    At first x' is nearer: the radius grows in proportion to the share of `warmup` that is over. The attack brought is
    `pgd` from the inputs themselves. A step of it costs m passes.

    Source: Salman et al., Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers, 2019,
    arXiv 1906.04584, SmoothAdv-PGD. Departures from the authors' code: a step trains on
    all m copies of its batch, as theirs does on each m-th part of a loader's batch with --train-multi-noise, and copies
    are passed one after the other, so batch norm sees each by itself; the radius grows with every step and not with
    every epoch, and what is clipped to the range is the change at the full radius; a gradient of zero moves nothing
    (random there); the mean probability is not bounded below by 1e-20. For soft targets the paper has no formula.

    Args:
        sigma: σ, in input units. 0.12, 0.25, 0.5 and 1 in the authors' experiments.
        samples: m. 1, 2, 4, 8 and 16 in the authors' experiments.
        warmup: share of the run, in [0, 1], in which the radius grows from 0; 10 of 150 epochs in the authors' example.
    """

    paper = (
        "Salman et al., Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers, 2019, "
        "arXiv 1906.04584"
    )
    provides: ClassVar[frozenset[str]] = frozenset({"noise"})
    needs: ClassVar[frozenset[str]] = frozenset({"attack"})
    conflicts: ClassVar[frozenset[str]] = frozenset({"noise"})  # the loss would have more of it than the attack
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd": {"start": "none"}}
    accepts: ClassVar[frozenset[str]] = frozenset({"image", "tabular"})

    def __init__(
        self,
        sigma: Annotated[float, Ge(0)] = 0.25,
        samples: Annotated[int, Ge(1)] = 2,
        warmup: Annotated[float, Ge(0), Le(1)] = 1 / 15,
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.samples = samples
        self.warmup = warmup

    def passes(self) -> Passes:
        """Every copy but one in the loss and in each evaluation of the attack."""
        more = self.samples - 1
        return Passes(forwards=more, full_backwards=more, inner=more)

    def inner(self, batch: Batch, step: Step) -> InnerLoss:
        """X [B, *input] -> J [B]."""
        noises = self._noises(batch, step)

        def smoothed_loss(x: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
            near = self._near(x, batch, step)
            return soft_cross_entropy(
                mean_log_probability([step.model(near + noise) for noise in noises]), batch.target
            )

        return smoothed_loss

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The label loss [B] in noise, mean over the copies."""
        near = self._near(batch.attacked, batch, step)
        outputs = [step.forward(near + noise, batch) for noise in self._noises(batch, step)]
        losses = torch.stack([step.loss(output.logits, batch) for output in outputs])
        return Outcome(losses.mean(0), adv=outputs[0])

    def _noises(self, batch: Batch, step: Step) -> list[Float[Tensor, "B *input"]]:
        return [self.sigma * step.normal(batch, batch.x, f"noise {i}") for i in range(self.samples)]

    def _near(self, x: Tensor, batch: Batch, step: Step) -> Float[Tensor, "B *input"]:
        """Inputs of the whole threat brought into the part of it that is open by now: a smaller ball of its shape."""
        share = min(step.progress / self.warmup, 1.0) if self.warmup else 1.0
        return x if share == 1.0 else batch.x + share * (x - batch.x)


def mean_log_probability(logits: list[Float[Tensor, "B C"]]) -> Float[Tensor, "B C"]:
    """The logarithm of the mean of the softmaxes of m logits, without under- or overflow."""
    return torch.stack(logits).log_softmax(-1).logsumexp(0) - math.log(len(logits))
