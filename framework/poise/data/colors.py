"""Colours that go along with classes: which each picture has, and how it looks in it."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "magenta": (1.0, 0.0, 1.0),
    "cyan": (0.0, 1.0, 1.0),
}


def correlated(own: Int[Tensor, " N"], count: int, correlation: float, keyed: torch.Generator) -> Int[Tensor, " N"]:
    """A colour for each example: its own with probability (1 + (K - 1)·correlation) / K, else any other alike.

    So it is always the own one at a correlation of 1, and says nothing at 0. Of two colours, as ±1, `correlation` is
    the mean of the product of own and given.

    Args:
        own: of each example, 0…K-1.
        count: K, 2 or more.
        correlation: from -1 / (K - 1) to 1.
        keyed: gives the draws.
    """
    chance = torch.rand(2, len(own), generator=keyed, dtype=torch.float64)
    others = 1 + (chance[1] * (count - 1)).long()
    return torch.where(chance[0] < (1.0 - correlation) * (count - 1) / count, own + others, own) % count


def tinted(
    x: Shaped[Tensor, "B channels H W"], color: Int[Tensor, " B"], strength: float = 1.0
) -> Shaped[Tensor, "B 3 H W"]:
    """Pictures of one channel or three as seen through glass of their colours.

    Args:
        x: uint8 or floating point; stays what it is.
        color: of each picture, its place among `COLORS`.
        strength: share of the light of other colours that the glass keeps out.
    """
    light = torch.tensor(list(COLORS.values()), dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    glass: Float[Tensor, "B 3 1 1"] = (1 - strength * (1 - light[color]))[:, :, None, None]
    return (x * glass).round().to(torch.uint8) if x.dtype == torch.uint8 else x * glass.to(x.dtype)
