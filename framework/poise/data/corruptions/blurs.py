"""Blur: out of focus, in motion, zooming."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from poise.data.corruptions.draws import Draws

Pictures = Float[Tensor, "B C H W"]


def gaussian_blur(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Every pixel becomes a bell, cut off at four standard deviations."""
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    reach = int(4 * sigma + 0.5)
    bell = _bell(sigma, reach, x)
    return _filtered(x, bell[:, None] * bell, "replicate")


def defocus_blur(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Every pixel becomes a disk with soft edges."""
    radius, softness = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    reach = math.floor(radius)
    place = torch.arange(-reach, reach + 1, dtype=x.dtype)
    disk = (place[:, None] ** 2 + place**2 <= radius**2).to(x.dtype)
    bell = _bell(softness, 1, x)
    soft = F.conv2d((disk / disk.sum())[None, None], (bell[:, None] * bell)[None, None], padding=2)
    return _filtered(x, soft[0, 0], "reflect")


def motion_blur(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Every pixel leaves a trail that fades, in a direction within 45 degrees of the horizontal."""
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    angle = math.pi / 2 * (draws.uniform() - 0.5)
    fading = torch.exp(-(torch.arange(2 * radius + 1, dtype=x.dtype) ** 2) / (2 * sigma**2))
    seen = torch.zeros_like(x)
    for far, weight in enumerate((fading / fading.sum()).tolist()):
        down, across = (torch.ceil(far * part - 0.5).long() for part in (angle.sin(), angle.cos()))
        seen += weight * _moved(x, down, across)
    return seen


def zoom_blur(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """The mean over zooms, one percent at a time."""
    most = (6, 11, 15, 20, 25)[severity - 1]
    zooms = [_zoomed(x, 1 + percent / 100) for percent in range(most + 1)]
    return (x + torch.stack(zooms).sum(0)) / (len(zooms) + 1)


def _bell(sigma: float, reach: int, like: Tensor) -> Float[Tensor, " K"]:
    place = torch.arange(-reach, reach + 1, dtype=like.dtype)
    bell = torch.exp(-(place**2) / (2 * sigma**2))
    return bell / bell.sum()


def _filtered(x: Pictures, kernel: Float[Tensor, "K K"], border: str) -> Pictures:
    """Each channel under a symmetric kernel of odd size; beyond the border it goes on as F.pad says."""
    channels, reach = x.shape[1], len(kernel) // 2
    wide = F.pad(x, (reach,) * 4, mode=border)
    return F.conv2d(wide, kernel.expand(channels, 1, -1, -1), groups=channels)


def _moved(x: Pictures, down: Int[Tensor, " B"], across: Int[Tensor, " B"]) -> Pictures:
    """Pictures whose pixels are those so far down and across; beyond the border its own."""
    _, _, height, width = x.shape
    row = (torch.arange(height) + down[:, None]).clamp(0, height - 1)
    column = (torch.arange(width) + across[:, None]).clamp(0, width - 1)
    return x.gather(2, row[:, None, :, None].expand_as(x)).gather(3, column[:, None, None, :].expand_as(x))


def _zoomed(x: Pictures, factor: float) -> Pictures:
    """The middle of the pictures, enlarged to their size."""
    height, width = x.shape[2:]
    tall, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - tall) // 2, (width - wide) // 2
    size = [math.floor(side * factor + 0.5) for side in (tall, wide)]
    middle = x[:, :, top : top + tall, left : left + wide]
    large = F.interpolate(middle, size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return large[:, :, top : top + height, left : left + width]
