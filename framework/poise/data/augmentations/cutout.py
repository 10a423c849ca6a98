"""A square of each picture blackened."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float
from torch import Tensor

from poise.data.augmentation import Augmentation
from poise.errors import UserError


class Cutout(Augmentation):
    """Blacken a square of each picture [B, C, H, W] around a pixel of it; what lies outside the picture is cut off.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017, arXiv
    1708.04552 (sizes 16 for CIFAR-10, 8 for CIFAR-100, 20 for SVHN). Departure: zero is black here, where the authors
    blacken normalised pictures, in which zero is the mean colour.

    Args:
        size: side of the square in pixels.
    """

    draws: ClassVar[int] = 2

    def __init__(self, size: Annotated[int, Ge(1)] = 16) -> None:
        self.size = size

    def check(self, height: int, width: int) -> None:
        """A square as large as the picture leaves nothing."""
        if self.size >= min(height, width):
            raise UserError(
                f"augment.cutout.size={self.size} blackens pictures of {height}x{width} as a whole: give less, half of "
                "a side at most, say."
            )

    def apply(self, x: Float[Tensor, "B C H W"], u: Float[Tensor, "B 2"]) -> Float[Tensor, "B C H W"]:
        """The pictures with their squares; u[:, 0] decides on the row and u[:, 1] on the column."""
        down, across = (self._covered(u[:, axis], size) for axis, size in enumerate(x.shape[2:]))
        return x.masked_fill((down[:, :, None] & across[:, None, :])[:, None], 0.0)

    def _covered(self, u: Float[Tensor, " B"], size: int) -> Bool[Tensor, "B N"]:
        """The rows, or columns, of each picture's square."""
        first = (u * size).floor()[:, None] - self.size // 2
        place = torch.arange(size, device=u.device)
        return (first <= place) & (place < first + self.size)
