"""A penalty on how sure predictions are, or how unsure."""

from typing import Annotated, Literal

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.losses import soft_cross_entropy
from poise.recipe import Recipe
from poise.step import Step


class EntropyPenalty(Recipe):
    """Add ±λ·mean H(p), with H(p) = -Σ_k p_k·log p_k in nats of each prediction [B, C]: pushed down, or up.

    p is what the model says of the inputs that are trained on: the attacked ones where there are any, else the clean
    ones, as raw logits have it. Targets, soft ones too, play no part. Costs no pass.

    The two goals are opposites. `lower_entropy` makes predictions sure, as the paper does. It inflates logits, which
    blinds attacks on the cross-entropy: a gain has to show under AutoAttack; and it works against calibration.
    `raise_entropy` makes them unsure, much as label smoothing does, on top of which it counts twice (Pereyra et al.,
    Regularizing Neural Networks by Penalizing Confident Output Distributions, 2017, arXiv 1701.06548).

    Source: Cubuk et al., Intriguing Properties of Adversarial Examples, 2017, arXiv 1711.02846, of which no code is
    known. Departures: form and strength of the paper's regulariser could not be checked; this is the plain one.

    Args:
        goal: what becomes of the predictions' entropy.
        weight: λ, in either direction.
    """

    paper = "Cubuk et al., Intriguing Properties of Adversarial Examples, 2017, arXiv 1711.02846"

    def __init__(
        self,
        goal: Literal["lower_entropy", "raise_entropy"] = "lower_entropy",
        weight: Annotated[float, Ge(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.goal = goal
        self.weight = weight

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""]:
        """λ times the mean entropy, or its negative."""
        sign = {"lower_entropy": 1, "raise_entropy": -1}[self.goal]
        return sign * self.weight * entropy(outcome.on.logits).mean()


def entropy(logits: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """Of softmax(logits), for each example, in nats: 0 of one class, log C of all alike."""
    return soft_cross_entropy(logits, logits.softmax(1))
