"""Many pictures at once, by threads: Pillow leaves Python's lock alone while it decodes."""

import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from poise.data.picture_files import BrokenPictureError, Form, decode
from poise.data.stored import Stored
from poise.errors import UserError
from poise.progress import progress_bar

CHUNK = 64  # pictures that a thread decodes before it takes more

Shape = tuple[int, ...]


class Gallery(NamedTuple):
    """Pictures in files, brought to one form.

    Args:
        folder: that the files are in.
        files: relative to it.
        form: of every picture.
    """

    folder: Path
    files: Sequence[str]
    form: Form

    def shape(self) -> Shape:
        """[N, C, H, W], by the first picture that is one.

        Raises:
            UserError: none is.
        """
        if self.form.size is not None:
            return (len(self.files), self.form.channels, self.form.size, self.form.size)
        wrong = ""
        for file in self.files:
            try:
                return (len(self.files), *decode(self.folder / file, self.form).shape)
            except BrokenPictureError as error:
                wrong = wrong or f"{self.folder / file}: {error}"
        raise UserError(f"none of {len(self.files)} pictures can be read: {wrong}.")

    def picture(self, file: str, shape: Shape) -> UInt8[np.ndarray, "C H W"]:
        """A picture [C, H, W] of the shape that all have.

        Raises:
            BrokenPictureError: it cannot be read.
            UserError: it has another shape.
        """
        pixels = decode(self.folder / file, self.form)
        if pixels.shape != shape:
            (_, height, width), (_, other_height, other_width) = shape, pixels.shape
            raise UserError(
                f"pictures have several sizes: {self.folder / self.files[0]} is {width} x {height}, "
                f"{self.folder / file} {other_width} x {other_height}. Give data.size={min(height, width)}, say, to "
                "which each is resized and cut."
            )
        return pixels


class Decoded(Stored):
    """Pictures [N, C, H, W], decoded whenever they are read.

    Raises:
        UserError: when it is read, a picture that cannot be.
    """

    def __init__(self, gallery: Gallery, shape: Shape) -> None:
        super().__init__(shape, torch.uint8)
        self.gallery = gallery

    def read(self, positions: Int[Tensor, " B"]) -> UInt8[Tensor, "B C H W"]:
        with threads() as pool:
            pixels = list(pool.map(self._picture, positions.tolist()))
        return torch.from_numpy(np.array(pixels, np.uint8).reshape(-1, *self.shape[1:]))

    def _picture(self, position: int) -> UInt8[np.ndarray, "C H W"]:
        file = self.gallery.files[position]
        try:
            return self.gallery.picture(file, tuple(self.shape[1:]))
        except BrokenPictureError as error:
            raise UserError(f"{self.gallery.folder / file} cannot be read: {error}.") from error


def decode_into(place: Path, gallery: Gallery, shape: Shape) -> None:
    """Write all pictures into a new file of their bytes, one after the other, [N, C, H, W].

    Raises:
        UserError: pictures that cannot be read, counted; or of several sizes.
        OSError: the file cannot be written, or there is no room for it.
    """
    broken: list[str] = []
    shown = progress_bar(True)(f"decode {gallery.folder.name}", shape[0])
    with open(place, "xb") as file, shown as done, threads() as pool:
        _reserve(file.fileno(), prod(shape))
        starts = range(0, shape[0], CHUNK)
        for start, wrong in zip(starts, pool.map(partial(_write, file.fileno(), gallery, shape), starts), strict=True):
            broken += wrong
            done(min(CHUNK, shape[0] - start))
        os.fsync(file.fileno())
    if broken:
        raise UserError(unreadable(broken, shape[0]))


def unreadable(broken: Sequence[str], count: int) -> str:
    """What is said of pictures that cannot be read, of so many: each with its reason, of which the first is told."""
    return f"{len(broken)} of {count} pictures cannot be read: {broken[0]}."


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """One for each processor that is ours; what none has begun when the block is left, as by Ctrl-C, is not done."""
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _reserve(descriptor: int, size: int) -> None:
    """Room for a file; says now whether there is any, not at the last picture."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        os.ftruncate(descriptor, size)  # a file system that cannot say


def _write(descriptor: int, gallery: Gallery, shape: Shape, start: int) -> list[str]:
    """Write a chunk in its place; what is wrong with the pictures that cannot be read."""
    size, wrong = prod(shape[1:]), []
    for place, file in enumerate(gallery.files[start : start + CHUNK], start):
        try:
            pixels = gallery.picture(file, shape[1:])
        except BrokenPictureError as error:
            wrong.append(f"{gallery.folder / file}: {error}")
        else:
            os.pwrite(descriptor, pixels.tobytes(), place * size)
    return wrong
