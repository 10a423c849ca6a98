"""Calibration error in soft bins as a penalty."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step
from poise_recipes.confidence.top_label import top_label

LEAST = 1e-5  # examples in a bin, as published
SMOOTH = 1e-12  # added under the root, whose slope at zero has no bound


class SoftECE(Recipe):
    """Add λ·√(Σ_j S_j/B·(K_j - A_j)²), the L2 calibration error with memberships in place of bins.

    Example i belongs to bin j of M by softmax_j(-(s_i - ξ_j)²/τ), ξ_j = (j - ½)/M. S_j sums the memberships, K_j and
    A_j are their means of the confidence s [B] of the predicted class and of the target's [B, C] share a [B] in it, a
    constant: 0 or 1, or in between of mixed targets. Predictions are those on the inputs trained on, the attacked ones
    where there are any, as raw logits have them; the sums run over all ranks. With τ towards 0 it is the error of
    equal-width bins. Costs no pass.

    Source: Karandikar et al., Soft Calibration Objectives for Neural Networks, 2021, arXiv 2108.00106, equation 11.
    Departures from the authors' code: 1e-12 under the root. Number of bins, τ and λ are not in their code, which
    leaves them to a search; those here are chosen. From its own anchor to the next a membership falls by exp(1/(M²·τ)),
    here by 1.6.

    Args:
        weight: λ.
        bins: M.
        temperature: τ, in squared units of confidence; the authors' code also takes that factor.
    """

    paper = "Karandikar et al., Soft Calibration Objectives for Neural Networks, 2021, arXiv 2108.00106"
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 2  # a sum, and the one in its backward

    def __init__(
        self,
        weight: Annotated[float, Ge(0)] = 1.0,
        bins: Annotated[int, Ge(1), Le(1000)] = 15,
        temperature: Annotated[float, Gt(0)] = 0.01,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.bins = bins
        self.temperature = temperature

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""]:
        """λ times the soft error of all ranks' examples, the same on each rank."""
        confidence, right = top_label(outcome.on.logits, batch.target)
        sums = step.ranks.sum(soft_sums(confidence, right, self.bins, self.temperature))
        return self.weight * soft_error(sums)


def soft_sums(
    confidence: Float[Tensor, " B"], right: Float[Tensor, " B"], bins: int, temperature: float
) -> Float[Tensor, "2 M"]:
    """For each of M bins the sum of memberships, and that of confidence minus right by membership."""
    anchors = (torch.arange(bins, dtype=confidence.dtype, device=confidence.device) + 0.5) / bins
    member = (-(confidence[:, None] - anchors).square() / temperature).softmax(1)
    return torch.stack([member.sum(0), (member * (confidence - right)[:, None]).sum(0)])


def soft_error(sums: Float[Tensor, "2 M"]) -> Float[Tensor, ""]:
    """√(Σ_j S_j/B·(D_j/S_j)²) of the sums S and D; B is the sum of all memberships. A bin divides by 1e-5 at least."""
    size, gap = sums
    mean_gap = gap / size.clamp(min=LEAST)
    return ((size * mean_gap.square()).sum() / size.sum() + SMOOTH).sqrt()
