"""Inputs of a model, in files that anybody can write."""

from pathlib import Path

import numpy as np

from poise.errors import UserError
from poise.files.arrays import read_npy, read_npz
from poise.files.columns import read_columns
from poise.files.pictures import PictureFiles, find_pictures, is_picture
from poise.files.shown import listed

NAME = "x"
HEADER = "x0,x1,x2"


def read_inputs(path: str, said: str) -> np.ndarray | PictureFiles:
    """The inputs [N, …] in an .npz file (the array x, or the only one), an .npy file or a table of numbers as .csv.

    Of a picture, and of a folder of pictures, their files, not looked into: they may be more than memory holds.

    Args:
        path: of the file or folder.
        said: how the user gave it, for messages.

    Raises:
        UserError: a file or folder that cannot be read, or without any input.
    """
    if Path(path).is_dir() or is_picture(path):
        return find_pictures(path, said)
    found = _read(path, said)
    if found.ndim < 2 or not len(found):
        raise UserError(f"{said} holds an array of shape {found.shape}: give inputs [N, …], one or more.")
    return found


def _read(path: str, said: str) -> np.ndarray:
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        table = read_columns(path, said, HEADER)
        return table.numbers(table.names)
    if suffix == ".npy":
        return read_npy(path, said)
    arrays = read_npz(path, said)
    if NAME not in arrays and len(arrays) != 1:
        raise UserError(f"{said} has no array {NAME!r}; it has {listed(arrays)}.")
    return arrays.get(NAME, next(iter(arrays.values())))
