"""Pictures moved by a few pixels."""

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor

from poise.data.augmentation import Augmentation
from poise.errors import UserError


class PadCrop(Augmentation):
    """Add a border of zeros and cut pictures [B, C, H, W] of their own size out of it, each at a place of its own.

    As residual networks are trained on CIFAR-10: He et al., Deep Residual Learning for Image Recognition, 2015, arXiv
    1512.03385, section 4.2. Here the border is zero before normalisation, which is black, as in torchvision's
    RandomCrop.

    Args:
        padding: width of the border in pixels; each picture moves by up to as many, up or down and left or right.
    """

    draws: ClassVar[int] = 2

    def __init__(self, padding: Annotated[int, Ge(1)] = 4) -> None:
        self.padding = padding

    def check(self, height: int, width: int) -> None:
        """A border as wide as the picture may be all that is cut out."""
        if self.padding >= min(height, width):
            raise UserError(
                f"augment.pad_crop.padding={self.padding} moves pictures of {height}x{width} out of sight: give less, "
                "an eighth of a side, say."
            )

    def apply(self, x: Float[Tensor, "B C H W"], u: Float[Tensor, "B 2"]) -> Float[Tensor, "B C H W"]:
        """The pictures, moved; u[:, 0] decides how far down, u[:, 1] how far right the crop begins."""
        places = 2 * self.padding + 1
        return cropped(x, self.padding, (u * places).long().clamp(max=places - 1))


def cropped(x: Float[Tensor, "B C H W"], padding: int, corner: Int[Tensor, "B 2"]) -> Float[Tensor, "B C H W"]:
    """Of each picture with its border [H + 2·padding, W + 2·padding] what begins at its corner (row, column)."""
    height, width = x.shape[2:]
    windows = F.pad(x, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # [B, C, row, column, H, W], a view
    return windows[torch.arange(len(x), device=x.device), :, corner[:, 0], corner[:, 1]]
