"""What is lost where pictures are stored: pixels and detail."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from poise.data.corruptions.draws import Draws

Pictures = Float[Tensor, "B C H W"]


def pixelate(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Made smaller and large again, by boxes."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]

    def coarse(picture: Image.Image) -> Image.Image:
        size = (max(1, int(picture.width * share)), max(1, int(picture.height * share)))
        return picture.resize(size, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BOX)

    return _each(x, coarse)


def jpeg_compression(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Written as JPEG and read again."""
    quality = (80, 65, 58, 50, 40)[severity - 1]

    def stored(picture: Image.Image) -> Image.Image:
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(x, stored)


def _each(x: Pictures, change: Callable[[Image.Image], Image.Image]) -> Pictures:
    """Every picture, at 8 bit, changed by PIL; of one channel or three."""
    levels = (255 * x).round().to(torch.uint8).movedim(1, -1)
    seen = [np.asarray(change(Image.fromarray(one.squeeze(-1).numpy()))) for one in levels]
    return (torch.from_numpy(np.stack(seen)).view(levels.shape).movedim(-1, 1) / 255).to(x.dtype)
