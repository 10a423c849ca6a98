"""A part of each picture, at the size of the whole."""

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from poise.data.augmentation import Augmentation
from poise.errors import UserError

ATTEMPTS = 10  # as torchvision has it


class RandomResizedCrop(Augmentation):
    """Cut a box of random area and aspect ratio out of each picture [B, C, H, W], and resize it.

    Source: Szegedy et al., Going Deeper with Convolutions, 2014, arXiv 1409.4842, section 6: the box has between 8 and
    100 % of the area and a ratio of width to height between 3/4 and 4/3. As torchvision's RandomResizedCrop the area is
    uniform and so is the logarithm of the ratio; of ten such boxes the first is taken that lies in the picture, if none
    does the largest in the middle whose ratio is allowed; resizing is bilinear and smoothed where it makes smaller
    (given the box, pictures agree with torchvision's to 1e-5). Departures: none; the ten are drawn at once, so that no
    picture is waited for.

    Args:
        min_scale: smallest share of the area, above 0, at most 1.
        max_scale: largest share of the area.
        ratio: largest ratio of the longer side to the shorter, where the picture is a square.
        size: pixels of each side of what comes out; None for the picture's own height and width.

    Raises:
        UserError: a smallest share above the largest.
    """

    draws: ClassVar[int] = 2 * 10 + 2  # area and ratio of each attempt, and a place

    def __init__(
        self,
        min_scale: Annotated[float, Gt(0), Le(1)] = 0.08,
        max_scale: Annotated[float, Gt(0), Le(1)] = 1.0,
        ratio: Annotated[float, Ge(1)] = 4 / 3,
        size: Annotated[int, Ge(1)] | None = None,
    ) -> None:
        if min_scale > max_scale:
            raise UserError(f"random_resized_crop: min_scale={min_scale:g} is above max_scale={max_scale:g}.")
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.ratio = ratio
        self.size = size

    def apply(self, x: Float[Tensor, "B C H W"], u: Float[Tensor, "B 22"]) -> Float[Tensor, "B C h w"]:
        """The boxes, resized: u decides on the areas and ratios of ten boxes, then on the place of the one taken."""
        tall, wide = x.shape[2:]
        scale, ratio = (self.min_scale, self.max_scale), (1 / self.ratio, self.ratio)
        top, left, height, width = boxes(u, tall, wide, scale, ratio)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has not the digits of a pixel
            down = weights(top, height, tall, self.size or tall)
            across = weights(left, width, wide, self.size or wide)
            resized = down[:, None] @ (x @ across[:, None].mT)
        # a mean of pixels lies between them, but for rounding
        return resized.clamp(x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True))


def boxes(
    u: Float[Tensor, "B 22"], height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Float[Tensor, " B"], ...]:
    """Top, left, height and width of a box for each picture, whole numbers of pixels.

    Args:
        u: uniform numbers in [0, 1): ten areas, ten ratios, the place down and across.
        height: of the pictures, in pixels.
        width: of the pictures.
        scale: least and largest share of the area.
        ratio: least and largest width over height.
    """
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, :ATTEMPTS])
    low, high = map(math.log, ratio)
    aspect = (low + (high - low) * u[:, ATTEMPTS : 2 * ATTEMPTS]).exp()
    tall, wide = (area / aspect).sqrt().round(), (area * aspect).sqrt().round()
    fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    middle_tall, middle_wide = min(height, round(width / ratio[0])), min(width, round(height * ratio[1]))
    some = fits.any(1)
    tall = torch.where(some, tall.gather(1, first).squeeze(1), middle_tall)
    wide = torch.where(some, wide.gather(1, first).squeeze(1), middle_wide)
    down, across = (u[:, -2] * (height - tall + 1)).floor(), (u[:, -1] * (width - wide + 1)).floor()
    top = torch.where(some, down, (height - middle_tall) // 2)
    left = torch.where(some, across, (width - middle_wide) // 2)
    return top, left, tall, wide


def weights(
    start: Float[Tensor, " B"], length: Float[Tensor, " B"], pixels: int, size: int
) -> Float[Tensor, "B size pixels"]:
    """How much of each of `pixels` goes into each of `size` that a row, from `start` on, is resized to.

    A triangle around the middle of the new pixel, as wide as two pixels of the larger kind; nothing from outside the
    box. Rows sum to one.
    """
    start, step = start.view(-1, 1, 1), (length / size).view(-1, 1, 1)
    middle = torch.arange(pixels, device=start.device, dtype=start.dtype) + 0.5
    centre = start + (torch.arange(size, device=start.device, dtype=start.dtype).view(-1, 1) + 0.5) * step
    weight = (1 - (middle - centre).abs() / step.clamp(min=1)).clamp(min=0)
    weight = weight * ((middle > start) & (middle < start + length.view(-1, 1, 1)))
    return weight / weight.sum(2, keepdim=True)
