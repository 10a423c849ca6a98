"""Cutting one array into splits."""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from poise.data.keys import generator
from poise.errors import UserError


def stratified(label: Int[Tensor, " N"], shares: Mapping[str, float], seed: int) -> dict[str, Int[Tensor, " M"]]:
    """Rows of each named split, and of 'train' what is left; every class is shared out alike.

    Args:
        label: classes [N].
        shares: name -> share of all rows, each above 0, below 1 together.
        seed: keys the draw; the same on every rank and machine.

    Raises:
        UserError: shares out of range.
    """
    for name, share in shares.items():
        if not 0.0 < share < 1.0:
            raise UserError(f"data.{name}={share} is a share of the data: above 0, below 1.")
    if sum(shares.values()) >= 1.0:
        given = ", ".join(f"data.{name}={share:g}" for name, share in shares.items())
        raise UserError(f"{given} leave nothing to train on: together they must stay below 1.")
    rows: dict[str, list[Tensor]] = {name: [] for name in ("train", *shares)}
    for c in label.unique().tolist():
        members = (label == c).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator(seed, "split", c))]
        start = 0
        for name, share in shares.items():
            end = min(start + round(share * len(members)), len(members))
            rows[name].append(members[start:end])
            start = end
        rows["train"].append(members[start:])
    return {name: torch.cat(parts).sort().values for name, parts in rows.items()}
