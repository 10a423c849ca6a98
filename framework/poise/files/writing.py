"""Files of results: there when they are whole, and never in the place of another."""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np

from poise.disk import way_out
from poise.errors import UserError


def write_npz(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by name.

    Raises:
        UserError: the file cannot be written, or is there by now.
    """

    def write(opened: IO[bytes]) -> None:
        np.savez(opened, **arrays)  # type: ignore[arg-type]  # of a later numpy, which has an argument there

    _write(path, write)


def write_csv(path: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, its first line the names of the columns.

    Raises:
        UserError: the file cannot be written, or is there by now.
    """

    def write(opened: IO[bytes]) -> None:
        with open(opened.fileno(), "w", encoding="utf-8", newline="", closefd=False) as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(names)
            writer.writerows(rows)

    _write(path, write)


def write_bytes(path: str, said: str, data: bytes) -> None:
    """Write what is there already.

    Args:
        path: of the file.
        said: how the user gave it, for messages.
        data: all of it.

    Raises:
        UserError: the file cannot be written, or is there by now.
    """

    def write(opened: IO[bytes]) -> None:
        opened.write(data)

    _write(path, write, said)


def _write(path: str, write: Callable[[IO[bytes]], None], said: str = "") -> None:
    """Write beside the place, then put it there in one step."""
    place = Path(path)
    beside = place.with_name(f".{uuid4().hex}")  # short, however long the name
    try:
        with open(beside, "xb") as opened:
            write(opened)
        if os.path.lexists(place):
            raise FileExistsError(f"{place} is there by now")
        os.replace(beside, place)
    except OSError as error:
        way = f"; {way_out(error)}" if way_out(error) else ""
        raise UserError(f"{said or f'out={path}'} cannot be written: {error.strerror or error}{way}.") from error
    finally:
        with suppress(OSError):  # what went wrong before is what is told
            beside.unlink()
