"""Pictures in files as what a predictor takes, decoded while it predicts."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from poise.card import Card
from poise.data.decoding import Shape, threads, unreadable
from poise.data.picture_files import MODES, BrokenPictureError, Form, decode
from poise.data.prefetch import ahead
from poise.errors import UserError
from poise.files.pictures import PictureFiles
from poise.predictor import PICTURES


def picture_inputs(card: Card, pictures: PictureFiles, said: str, size: int) -> Iterator[UInt8[Tensor, "B C H W"]]:
    """All pictures, so many at a time, in the form that a predictor takes; none after one that cannot be read.

    They are brought to its channels and, where it takes squares, to their size as `image_folder` does it: the shorter
    side is resized to it and the centre cut out.

    Args:
        card: of the predictor.
        pictures: in files.
        said: how the user gave them, for messages.
        size: B, but for the last.

    Raises:
        UserError: a predictor that takes no pictures; in the iteration, once all are looked at, pictures that cannot be
            read or have not the size of a predictor that takes no squares, counted.
    """
    return _decoded(pictures, _form(card, said), tuple(card.input_shape), said, size)


def _form(card: Card, said: str) -> Form:
    shape = tuple(card.input_shape)
    if len(shape) != 3 or shape[0] not in MODES:
        raise UserError(
            f"{said}: this predictor takes [N, {', '.join(map(str, shape))}], and pictures are [N, C, H, W] with 1 or "
            "3 channels: give a file of arrays."
        )
    if card.valid_range is None or tuple(card.valid_range) != PICTURES:
        taken = "numbers of any size" if card.valid_range is None else "{:g}…{:g}".format(*card.valid_range)
        raise UserError(f"{said}: this predictor takes {taken}, and pictures are 0…1: give a file of arrays.")
    channels, height, width = shape
    return Form(channels, height if height == width else None)


def _decoded(
    pictures: PictureFiles, form: Form, shape: Shape, said: str, size: int
) -> Iterator[UInt8[Tensor, "B C H W"]]:
    broken: list[str] = []
    with threads() as pool:
        read = partial(_pixels_or_reason, pictures, form, shape)
        chunks = (pictures.files[start : start + size] for start in range(0, len(pictures), size))
        for found in ahead(lambda files: list(pool.map(read, files)), chunks):
            broken += [reason for reason in found if isinstance(reason, str)]
            if not broken:
                yield torch.from_numpy(np.array(found))
    if broken:
        raise UserError(f"{said}: {unreadable(broken, len(pictures))}")


def _pixels_or_reason(pictures: PictureFiles, form: Form, shape: Shape, file: str) -> UInt8[np.ndarray, "C H W"] | str:
    """A picture [C, H, W], or what is wrong with one that is none."""
    try:
        pixels = decode(pictures.folder / file, form)
    except BrokenPictureError as error:
        return f"{pictures.folder / file}: {error}"
    if pixels.shape != shape:
        (_, height, width), (_, other_height, other_width) = shape, pixels.shape
        taken = f"{width} x {height} are taken, and only squares are cut out"
        return f"{pictures.folder / file}: it has {other_width} x {other_height} pixels, where {taken}"
    return pixels
