"""Who is mixed with whom, and how much: what mixers share."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.batch import Batch
from poise.step import Step


def pairs(batch: Batch, step: Step, alpha: float) -> tuple[Float[Tensor, " B"], Int[Tensor, " B"]]:
    """Shares λ ~ Beta(alpha, alpha) [B] and partners [B], drawn block by block; nobody is its own partner."""
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
