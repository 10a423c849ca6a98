"""Reading .npz files of others: nothing is unpickled, everything is named."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from poise.errors import UserError, nearest
from poise.files.arrays import read_npz

CHANNELS = (1, 3, 4)


def read_archive(
    path: str, required: Sequence[str], optional: Sequence[str], prefixes: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name.

    Args:
        path: of the file.
        required: names of arrays that have to be there.
        optional: names of those that may be there.
        prefixes: beginnings of further names, which may be there too.

    Raises:
        UserError: no such file, a directory, a damaged or pickled one, arrays that are missing or have unknown names.
    """
    file = read_npz(path, f"data.path={path}")
    _check_names(path, list(file), required, optional, prefixes)
    return file


def _check_names(
    path: str, names: Sequence[str], required: Sequence[str], optional: Sequence[str], prefixes: tuple[str, ...]
) -> None:
    missing = [name for name in required if name not in names]
    known = [*required, *optional]
    strangers = [name for name in names if name not in known and not name.startswith(prefixes)]
    if missing:
        given = ", ".join(names) or "no arrays"
        raise UserError(f"{path} has no {missing[0]}; it has {given}.{nearest(missing[0], strangers)}")
    for name in strangers:
        raise UserError(f"{path}: nothing is known of an array {name!r}.{nearest(name, known)}")


def as_inputs(name: str, array: np.ndarray) -> Shaped[Tensor, "N *input"]:
    """Inputs [N, D] or [N, C, H, W], uint8 or float32.

    Args:
        name: of the array.
        array: [N, D], [N, H, W], [N, H, W, C] with 1, 3 or 4 channels, or [N, C, H, W].

    Raises:
        UserError: other shapes or types.
    """
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise UserError(f"{name} holds {array.dtype}: give uint8 (0 to 255) or floats.")
    if array.ndim not in (2, 3, 4):
        raise UserError(f"{name} has shape {array.shape}: give [N, D], [N, H, W], [N, H, W, C] or [N, C, H, W].")
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and array.shape[-1] in CHANNELS:
        array = np.moveaxis(array, -1, 1)
    return torch.from_numpy(_native(array, np.uint8 if array.dtype == np.uint8 else np.float32))


def as_integers(name: str, array: np.ndarray, rows: int) -> Int[Tensor, " N"]:
    """Labels or groups, int64 [N], from [N] or [N, 1].

    Raises:
        UserError: other types, another number of rows than the inputs have.
    """
    if array.dtype.kind not in "iub":
        raise UserError(f"{name} holds {array.dtype}: labels and groups are integers from 0.")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (rows,):
        raise UserError(f"{name} has shape {array.shape} for {rows} inputs: give one integer for each.")
    return torch.from_numpy(_native(array, np.int64))


def as_names(array: np.ndarray) -> tuple[str, ...]:
    """Names of classes from an array of text.

    Raises:
        UserError: something else than one line of text per class.
    """
    if array.dtype.kind != "U" or array.ndim != 1 or len(array) < 2:
        raise UserError(f"class_names holds {array.dtype} of shape {array.shape}: give two texts or more.")
    return tuple(str(name) for name in array)


def _native(array: np.ndarray, dtype: Any) -> np.ndarray:
    """A contiguous, writable array in this machine's byte order."""
    return np.array(array, dtype=dtype, order="C", copy=True)
