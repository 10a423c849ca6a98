"""Inputs of a model, in a file that anybody can write."""

from pathlib import Path

import numpy as np

from poise.errors import UserError
from poise.files.arrays import read_npy, read_npz
from poise.files.columns import read_columns
from poise.files.shown import listed

NAME = "x"


def read_inputs(path: str, said: str) -> np.ndarray:
    """The inputs [N, …] in an .npz file (the array x, or the only one), an .npy file or a table of numbers as .csv.

    Args:
        path: of the file.
        said: how the user gave it, for messages.

    Raises:
        UserError: a file that cannot be read, or without any input.
    """
    found = _read(path, said)
    if found.ndim < 2 or not len(found):
        raise UserError(f"{said} holds an array of shape {found.shape}: give inputs [N, …], one or more.")
    return found


def _read(path: str, said: str) -> np.ndarray:
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        table = read_columns(path, said)
        return table.numbers(table.names)
    if suffix == ".npy":
        return read_npy(path, said)
    arrays = read_npz(path, said)
    if NAME not in arrays and len(arrays) != 1:
        raise UserError(f"{said} has no array {NAME!r}; it has {listed(arrays)}.")
    return arrays.get(NAME, next(iter(arrays.values())))
