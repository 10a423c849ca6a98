"""Two halves of a picture that have no pixel in common, each enough to classify it by."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from poise.errors import UserError


def checkerboards(x: Float[Tensor, "*input"]) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """The masks of both halves, 1 and 0 in turn along rows and columns, in all channels alike; they add up to one.

    Raises:
        UserError: inputs that are no pictures of 2x2 pixels or more.
    """
    if x.ndim < 3 or min(x.shape[-2:]) < 2:
        raise UserError(f"inputs of shape {tuple(x.shape)} have no halves: pictures of 2x2 pixels or more do")
    row, column = (torch.arange(size, device=x.device) for size in x.shape[-2:])
    first = ((row[:, None] + column) % 2).to(x.dtype)
    return 1 - first, first


def half_in_noise(
    x: Float[Tensor, "*rows channels H W"],
    noise: Float[Tensor, "B channels H W"],
    mask: Float[Tensor, "*chosen H W"],
) -> Float[Tensor, "B channels H W"]:
    """One half of pictures with noise on its pixels alone, to which the maxima of squares of 2x2 of it are added.

    What is not in the half plays no part, and what is done after the noise is the same for all: so whatever a model
    says of these is a function of the half in Gaussian noise.

    Args:
        x: pictures, or one.
        noise: Gaussian.
        mask: 1 at the pixels of the half, else 0; for all, or [B, 1, H, W].
    """
    seen = (x + noise) * mask
    maxima = interpolate(max_pool2d(seen, 2), size=seen.shape[-2:], mode="nearest")
    return seen + maxima * mask
