"""Tables as .csv files: a line that names the columns, then one line for each row."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poise.errors import UserError
from poise.files.shown import listed, quoted

OTHERS = {";": "semicolons", "\t": "tabs"}  # that tables are split at elsewhere


@dataclass(frozen=True)
class Columns:
    """A table as text.

    Args:
        said: how the user gave its file, for messages.
        names: of the columns.
        rows: each with one cell for each column.
        lines: on which each row ends in the file, from 1.
    """

    said: str
    names: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def texts(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.names.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """The cells of some columns as float64 [N, columns].

        Raises:
            UserError: one is no number; its line and column are named.
        """
        places = [self.names.index(name) for name in names]
        try:
            found = [[float(row[place]) for place in places] for row in self.rows]
        except ValueError:
            raise UserError(self._no_number(places)) from None
        return np.array(found, dtype=np.float64).reshape(len(found), len(places))

    def _no_number(self, places: Sequence[int]) -> str:
        line, place, cell = next(
            (line, place, row[place])
            for line, row in zip(self.lines, self.rows, strict=True)
            for place in places
            if not _is_number(row[place])
        )
        return f"{self.said}, line {line}: {quoted(cell)} in column {quoted(self.names[place])} is no number."


def read_columns(path: str, said: str, header: str) -> Columns:
    """The table in a .csv file, split at commas, its first line the names of the columns.

    Args:
        path: of the file.
        said: how the user gave it, for messages.
        header: how its first line may look, for messages.

    Raises:
        UserError: no such file, no text, another separator, no or repeated names, or a line with more or fewer cells.
    """
    if not Path(path).is_file():
        wrong = "this is a directory: give a .csv file" if Path(path).is_dir() else "there is no such file"
        raise UserError(f"{said}: {wrong}.")
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened, strict=True)
            for row in reader:
                if row:
                    rows.append([cell.strip() for cell in row])
                    lines.append(reader.line_num)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{said} is no .csv file of text: {' '.join(str(error).split())}") from error
    if not rows:
        raise UserError(f"{said} is empty: its first line names the columns, as in {header}.")
    found = Columns(said, tuple(rows[0]), rows[1:], lines[1:])
    _check(found, header)
    return found


def _check(found: Columns, header: str) -> None:
    names = found.names
    split_at = next((word for mark, word in OTHERS.items() if len(names) == 1 and mark in names[0]), None)
    if split_at is not None:
        raise UserError(f"{found.said} has {split_at} between its columns: separate columns by commas.")
    if _is_row(names):
        raise UserError(
            f"{found.said}: the first line, {listed(names)}, holds numbers, where it has to name the columns: write a "
            f"line above it, as in {header}."
        )
    again = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if again is not None:
        raise UserError(f"{found.said}: two columns are called {quoted(again)}.")
    for line, row in zip(found.lines, found.rows, strict=True):
        if len(row) != len(names):
            raise UserError(f"{found.said}, line {line} has {len(row)} cells for {len(names)} columns.")


def _is_row(names: Sequence[str]) -> bool:
    """Whether a first line is no line of names: numbers are none, but for places from 0 and integers among names."""
    numbers = [name for name in names if _is_number(name)]
    places = [str(place) for place in range(len(names))]
    return (len(numbers) == len(names) and list(names) != places) or not all(number.isdigit() for number in numbers)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
