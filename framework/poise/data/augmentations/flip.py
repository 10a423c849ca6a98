"""Left and right exchanged, for some pictures."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from poise.data.augmentation import Augmentation


class Flip(Augmentation):
    """Mirror pictures [B, C, H, W] left to right, each with probability `p`.

    Args:
        p: probability, 0 to 1.
    """

    draws: ClassVar[int] = 1

    def __init__(self, p: Annotated[float, Ge(0), Le(1)] = 0.5) -> None:
        self.p = p

    def apply(self, x: Float[Tensor, "B C H W"], u: Float[Tensor, "B 1"]) -> Float[Tensor, "B C H W"]:
        """The pictures, those with u < p mirrored."""
        return torch.where(u.view(-1, 1, 1, 1) < self.p, x.flip(3), x)
