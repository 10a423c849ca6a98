"""Each example beside a mixture of it."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class TinyRegmixup(Recipe):
    """Train on 2·B rows, each example adjacent to a mixture of it, whose losses [2·B] count η times.

    Source: Pinto et al., RegMixup: Mixup as a Regularizer Can Surprisingly Improve Accuracy and Out Distribution
    Robustness, 2022, arXiv 2206.14502: one mean over all rows, as in the authors' code. λ ~ U(0.4, 0.6), near that
    of their Beta with a large α.

    Args:
        eta: η >= 0, absolute.
    """

    paper = "Pinto et al., RegMixup, 2022, arXiv 2206.14502"
    provides: ClassVar[frozenset[str]] = frozenset({"mixed", "resized"})
    after: ClassVar[frozenset[str]] = frozenset({"views"})
    relative: ClassVar[bool] = False
    accepts: ClassVar[frozenset[str]] = frozenset({"image", "tabular"})

    def __init__(self, eta: float = 0.5) -> None:
        super().__init__()
        self.eta = eta

    def mix(self, batch: Batch, step: Step) -> Batch:
        share, partner = torch.empty_like(batch.target[:, 0]), torch.empty_like(batch.label)
        for rows, generator in step.blocks(batch, "pairs"):
            draws = torch.rand(len(rows), generator=generator, device=rows.device, dtype=share.dtype)
            share[rows] = 0.4 + 0.2 * draws
            order = rows[torch.randperm(len(rows), generator=generator, device=rows.device)]
            partner[order] = order.roll(1)
        own = share.view(-1, *[1] * (batch.x.ndim - 1))
        mixed = batch.blend(partner, share, lambda x: own * x + (1 - own) * x[partner])
        weights = torch.ones_like(batch.target[:, 0])
        return batch.interleave(mixed).note(self, torch.stack([weights, self.eta * weights], 1).flatten())

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"]:
        weights: Tensor = batch.noted(self)
        return weights
