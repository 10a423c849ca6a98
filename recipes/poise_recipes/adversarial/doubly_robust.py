"""Doubly robust adversarial training: the worst inputs, and the worst examples."""

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class DoublyRobust(Recipe):
    """Weigh examples [B] as the worst distribution near the uniform one does: w ∝ exp(ℓ/r), with a mean of one.

    Over the global batch these weights maximise Σ w·ℓ - r·KL(w ‖ uniform), whose value is r·log mean exp(ℓ/r); the
    loss has its gradient. Losses ℓ are those of the objective, whatever it is, at x'. Of soft targets [B, C] ℓ is
    what is above the entropy of the target, below which no loss can fall: else mixed examples would count as hard.
    Multiplied with other recipes' weights, it looks at unweighted losses. Costs no pass.

    Hard examples may be wrong labels: a small r chases them. The share of the batch that the weights leave effective,
    (Σw)²/(B·Σw²), is logged; where it falls below a fifth, raise r. The weights are no defence of their own: look at
    the worst classes' robust accuracy.

    Source: Sow et al., Doubly Robust Instance-Reweighted Adversarial Training, 2024, arXiv 2308.00311. This is a
    practical form of it. Departures from the paper (its code was not found): the attack is an ordinary one, brought
    as `pgd` with `pgd_at`, not a lower level with a log-barrier, and x' is taken as it is, without the implicit
    gradient of how it depends on the weights; exp(ℓ/r) is normalised by the batch, not by a moving average, so it is
    the mean over batches that is minimised; and weights are capped, and uniform at first. The paper's values of r
    could not be checked; the defaults are ours.

    Args:
        temperature: r, in nats: near 0 only the worst example counts, large values weigh all alike.
        largest: most that one example weighs, before the mean is made one.
        burn_in: share of the run, in [0, 1], before which all weigh alike.
    """

    paper = "Sow et al., Doubly Robust Instance-Reweighted Adversarial Training, 2024, arXiv 2308.00311"
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd_at": {}, "pgd": {}}
    collectives: ClassVar[int] = 1

    def __init__(
        self,
        temperature: Annotated[float, Gt(0)] = 2.0,
        largest: Annotated[float, Ge(1)] = 10.0,
        burn_in: Annotated[float, Ge(0), Le(1)] = 0.5,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.largest = largest
        self.burn_in = burn_in

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"]:
        """The weights [B], in (0, largest]; all one before the burn-in is over."""
        temperature = self.temperature if step.progress >= self.burn_in else math.inf
        excess = outcome.loss.detach() - torch.special.entr(batch.target).sum(1)
        weight = worst_case(step.ranks.gather(excess), temperature).clamp(max=self.largest)
        step.log("doubly_robust/effective_share", weight.mean().square() / weight.square().mean())
        return weight.chunk(step.ranks.size)[step.ranks.rank]


def worst_case(loss: Float[Tensor, " N"], temperature: float) -> Float[Tensor, " N"]:
    """N·softmax(ℓ/r) [N]: the weights, with a mean of one, of the worst distribution near the uniform one."""
    return len(loss) * (loss / temperature).softmax(0)
