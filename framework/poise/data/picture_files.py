"""One picture: from a file to bytes of one form."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

MODES = {1: "L", 3: "RGB"}  # by the number of channels


@dataclass(frozen=True)
class Form:
    """What every picture is brought to.

    Args:
        channels: 3 for red, green and blue; 1 for grey.
        size: height and width of the square that is cut out of the centre; None leaves a picture as large as it is.
        resize: length that the shorter side is brought to before; None is `size`.
    """

    channels: int = 3
    size: int | None = None
    resize: int | None = None


class BrokenPictureError(Exception):
    """A file that is no picture, or not a whole one; the message says why."""


def decode(file: Path, form: Form) -> UInt8[np.ndarray, "C H W"]:
    """The picture in a file, as a person sees it: turned as its EXIF orientation says.

    Palettes and CMYK become red, green and blue, 16 bits become 8, transparency is left out, as torchvision's
    ImageFolder does it. Resized and cut as torchvision's Resize (bilinear, antialiased) and CenterCrop do it.

    Raises:
        BrokenPictureError: there is none.
    """
    try:
        with Image.open(file) as picture:
            upright = _upright(_eight_bits(picture)).convert(MODES[form.channels])
            pixels = np.asarray(upright if form.size is None else _cut(upright, form.size, form.resize or form.size))
    except Exception as error:  # decoders of bytes that anybody wrote raise whatever comes up
        raise BrokenPictureError(_reason(error)) from error
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Pillow would cut off what is above 255 instead of scaling it."""
    if picture.mode.startswith("I;16"):
        upper = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        upper.info = picture.info
        return upper
    if picture.mode in ("I", "F"):
        raise ValueError("it holds numbers of 32 bits, not 8 or 16")
    return picture


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # what a camera wrote beside a picture may be broken, and the picture whole
        return picture


def _cut(picture: Image.Image, size: int, shorter: int) -> Image.Image:
    width, height = picture.size
    short = min(width, height)
    if short != shorter:
        width, height = (shorter if side == short else int(shorter * side / short) for side in (width, height))
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return picture.crop((left, top, left + size, top + size))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "this is no picture"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
