"""GAIRAT: weights by how soon the attack succeeds."""

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.rules import Refusal
from poise.step import Step


class GAIRAT(Recipe):
    """Weigh examples [B] by their distance from the decision: ω = (1 + tanh(λ + 5·(1 - 2κ)))/2, with a mean of one.

    κ [B] is the share of the attack's K iterates, the start among them and the end not, that are still classified
    right: those that flip at once count most. With λ = -1 those that survive six steps of ten count next to nothing.
    Costs no pass.

    Beware: most of what this gains against PGD is masked gradients. Logits become so uneven in scale that the attack's
    cross-entropy sees little; multiplying them by a constant, or AutoAttack, undoes it (Hitaj et al., Evaluating the
    Robustness of Geometry-Aware Instance-Reweighted Adversarial Training, 2021, arXiv 2103.01914), and the rest can
    be less than that of plain adversarial training. Trust no PGD number of it alone.

    Of soft targets [B, C] κ counts the hits of the most likely class. That says the less, the nearer the second one
    is: with shares t₁ ≥ t₂ an example weighs (t₁ - t₂)·ω and the rest as the average example, so one of two equal
    halves has weight one.

    Source: Zhang et al., Geometry-aware Instance-reweighted Adversarial Training, 2021, arXiv 2010.01736.
    Departures from the authors' code: the mean is that of the batch over all ranks; for an odd K theirs rounds K/2
    down, the paper does not, and decides. Its two other weights, and a λ that changes in the run, are left out: in
    their code λ's later pieces are never reached. Brings `pgd_at` and `pgd`; on `trades` it weighs its whole loss.

    Args:
        shift: λ; -1 in the authors' script, ∞ would weigh all alike.
        burn_in: share of the run, in [0, 1], before which all weigh alike. 59/120 in the authors' script: from the
            60th of 120 epochs on.
    """

    paper = "Zhang et al., Geometry-aware Instance-reweighted Adversarial Training, 2021, arXiv 2010.01736"
    needs: ClassVar[frozenset[str]] = frozenset({"kappa"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd_at": {}, "pgd": {}}
    collectives: ClassVar[int] = 1

    def __init__(self, shift: float = -1.0, burn_in: Annotated[float, Ge(0), Le(1)] = 0.5) -> None:
        super().__init__()
        self.shift = shift
        self.burn_in = burn_in

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"]:
        """The weights [B], to be scaled to a mean of one; all alike before the burn-in is over."""
        if batch.kappa is None:
            raise Refusal(
                "unmet need",
                "gairat needs `kappa`, which an attack reads off the model's passes, and the inner loss of this stack "
                "makes none that it hears: leave out gairat",
            )
        step.log("gairat/kappa", batch.kappa)
        shift = self.shift if step.progress >= self.burn_in else math.inf
        weight, clear = geometry_weight(batch.kappa, shift), clearness(batch.target)
        total, count = step.ranks.sum(torch.stack([clear @ weight, clear.sum()]))
        average = torch.where(count > 0, total / count, 1.0)
        return clear * weight + (1 - clear) * average


def geometry_weight(kappa: Float[Tensor, " B"], shift: float) -> Float[Tensor, " B"]:
    """(1 + tanh(λ + 5·(1 - 2κ)))/2 for shares κ in [0, 1]: 1 where the attack wins at once."""
    return torch.sigmoid(2 * (shift + 5 * (1 - 2 * kappa)))  # the same, without 1 - 1 where it is small


def clearness(target: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """How far the largest share of each target is above the next: 1 of one class, 0 of two equal ones."""
    first, second = target.topk(2, dim=1).values.unbind(1)
    return first - second
