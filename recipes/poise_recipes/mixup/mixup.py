"""mixup: train between examples."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class Mixup(Recipe):
    """Train between examples: x ← λ·x + (1-λ)·x_partner, and targets t alike, with λ ~ Beta(α, α) for each row.

    Inputs [B, *input], targets [B, C]; rows are paired inside their block, each with another.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, arXiv 1710.09412, section 2. Departures
    from the authors' code: each row has its own λ (one for the whole batch there; the same expected loss, with less
    variance), and no row is its own partner.

    Args:
        alpha: of the Beta distribution; 0 mixes nothing.
    """

    paper = "Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018, arXiv 1710.09412"
    provides: ClassVar[frozenset[str]] = frozenset({"mixed"})
    accepts: ClassVar[frozenset[str]] = frozenset({"image", "tabular"})

    def __init__(self, alpha: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def mix(self, batch: Batch, step: Step) -> Batch:
        """The batch mixed with itself."""
        if self.alpha == 0:
            return batch
        share, partner = pairs(batch, step, self.alpha)
        own = share.view(-1, *[1] * (batch.x.ndim - 1))
        return batch.blend(partner, share, lambda x: own * x + (1 - own) * x[partner])


def pairs(batch: Batch, step: Step, alpha: float) -> tuple[Float[Tensor, " B"], Int[Tensor, " B"]]:
    """Shares λ ~ Beta(alpha, alpha) [B] and partners [B], drawn block by block."""
    share = torch.empty(len(batch), dtype=batch.x.dtype, device=batch.x.device)
    partner = torch.empty(len(batch), dtype=torch.int64, device=batch.x.device)
    for rows, generator in step.blocks(batch, "pairs"):
        shape = torch.full((2, len(rows)), alpha, dtype=torch.float64, device=rows.device)
        gamma = torch._standard_gamma(shape, generator=generator)
        # both draws can underflow to zero for a small alpha, where λ is 0 or 1 with equal chance
        first = gamma[0] + torch.finfo(torch.float64).tiny
        share[rows] = (first / (first + gamma[1])).to(share.dtype)
        order = rows[torch.randperm(len(rows), generator=generator, device=rows.device)]
        partner[order] = order.roll(1)
    return share, partner
