"""Arrays from files of others: nothing is unpickled, and whatever is wrong with a file is one line."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from poise.errors import UserError
from poise.files.shown import quoted

PICKLED = "Object arrays cannot be loaded"  # as numpy says it
OBJECTS = (
    "holds an array of Python objects, which may run code when it is read, so poise does not: write numbers, as "
    "numpy.asarray(…, dtype=int) gives them."
)


def read_npz(path: str, said: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name.

    Args:
        path: of the file.
        said: how the user gave it, such as `data.path=cats.npz`, for messages.

    Raises:
        UserError: no such file, a directory, a damaged or pickled one.
    """
    _check_file(path, said, "an .npz file")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{said} is no .npz archive of arrays: write one with numpy.savez.")
    with _opened(path, said, ".npz file of plain arrays") as opened:
        file = np.load(opened, allow_pickle=False)
        found = {name: file[name] for name in file.files}
    for name, array in found.items():
        if not isinstance(array, np.ndarray):  # the bytes of what does not begin as an array does
            raise UserError(f"{said} is not a whole .npz file of plain arrays: {quoted(name)} is none.")
    return found


def read_npy(path: str, said: str) -> np.ndarray:
    """The array of an .npy file.

    Args:
        path: of the file.
        said: how the user gave it, for messages.

    Raises:
        UserError: no such file, a directory, a damaged or pickled one.
    """
    _check_file(path, said, "an .npy file")
    with _opened(path, said, ".npy file of a plain array") as opened:
        return np.lib.format.read_array(opened, allow_pickle=False)


def _check_file(path: str, said: str, kind: str) -> None:
    if not Path(path).is_file():
        other = "a directory" if Path(path).is_dir() else "no regular file"
        wrong = f"this is {other}: give {kind}" if Path(path).exists() else "there is no such file"
        raise UserError(f"{said}: {wrong}.")


@contextmanager
def _opened(path: str, said: str, kind: str) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as opened:
            yield opened
    except Exception as error:  # of zipfile, zlib, numpy's header and its memory: a damaged file meets all of them
        if PICKLED in str(error):
            raise UserError(f"{said} {OBJECTS}") from error
        raise UserError(f"{said} is not a whole {kind}: {' '.join(str(error).split())}") from error
