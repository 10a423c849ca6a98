"""Who is mixed with whom, and how much: what mixers share."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.batch import Batch
from poise.step import Step


def pairs(batch: Batch, step: Step, alpha: float) -> tuple[Float[Tensor, " B"], Int[Tensor, " B"]]:
    """Shares λ ~ Beta(alpha, alpha) [B] and partners [B], drawn block by block; nobody is its own partner."""
    gammas, orders = [], []
    for rows, generator in step.blocks(batch, "pairs"):
        shape = torch.full((2, len(rows)), alpha, dtype=torch.float64, device=rows.device)
        gammas.append(torch._standard_gamma(shape, generator=generator))
        orders.append(rows[torch.randperm(len(rows), generator=generator, device=rows.device)])
    first, second = torch.cat(gammas, 1)
    # both draws can underflow to zero for a small alpha, where λ is 0 or 1 with equal chance
    first = first + torch.finfo(first.dtype).tiny
    order, next_in_block = torch.cat(orders), torch.cat([order.roll(1) for order in orders])
    return (first / (first + second)).to(batch.x.dtype), torch.empty_like(order).scatter_(0, order, next_in_block)
