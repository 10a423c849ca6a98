"""Which pictures a folder holds, as a table of them says."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from poise.data.listing import OOD, SHIFTS, SPLITS, UNLABELLED, Listing, Part
from poise.errors import UserError, nearest
from poise.files.columns import Columns, read_columns
from poise.files.shown import listed, quoted

METADATA = "metadata.csv"
NEEDED, FURTHER = ("file", "label"), ("group", "split")
PREFIXES = {"shift:": SHIFTS, "ood:": OOD}
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?")


def list_metadata(folder: Path) -> Listing:
    """The pictures that a folder's metadata.csv lists, in its order.

    Its columns: `file`, relative to the folder; `label`, a class by name, or by number from 0 where all are numbers;
    `group`, likewise; `split`: train, val, calibration, test, shift:NAME, ood:NAME or unlabelled. Where there is no
    column `split`, all are train. Where some are, their labels are the classes. Labels of ood and unlabelled pictures
    are not looked at.

    Raises:
        UserError: columns that are missing or misspelt; files that are missing or named twice; splits that are unknown;
            labels that training does not know; groups for some rows of a split; numbers that are negative, broken or
            leave one out.
    """
    table = read_columns(str(folder / METADATA), str(folder / METADATA), ",".join(NEEDED))
    _check_columns(table)
    files = table.texts("file")
    _check_files(table, folder, files)
    _check_folders(table, folder, files)
    places = _rows_by_part(table)
    labelled = [row for part, rows in places.items() if _has_labels(part) for row in rows]
    _check_labels(table, places.get("train", ()), labelled)
    label, class_names = _numbered(table, "label", labelled)
    if len(class_names) < 2:
        held = f"every label is {quoted(class_names[0])}" if class_names else "there are no labels"
        raise UserError(f"{table.said}: {held}; a classifier needs two classes or more.")
    grouped = [] if "group" not in table.names else [row for row, cell in enumerate(table.texts("group")) if cell]
    group, group_names = _numbered(table, "group", grouped) if grouped else (torch.empty(0), ())
    parts = {}
    for name, rows in places.items():
        chosen = torch.tensor(rows)
        known = bool(grouped) and _all_grouped(table, name, group[chosen])
        parts[name] = Part([files[row] for row in rows], label[chosen], group[chosen] if known else None)
    return Listing(folder, parts, class_names, group_names)


def _check_columns(table: Columns) -> None:
    missing = [name for name in NEEDED if name not in table.names]
    if missing:
        raise UserError(
            f"{table.said} has no column {' and no column '.join(missing)}: its first line has to be "
            f"file,label or file,label,group,split, and it is {quoted(','.join(table.names))}."
        )
    for name in table.names:
        if name not in (*NEEDED, *FURTHER) and nearest(name, [n for n in FURTHER if n not in table.names]):
            raise UserError(f"{table.said}: nothing reads a column {quoted(name)}.{nearest(name, FURTHER)}")


def _check_files(table: Columns, folder: Path, files: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for line, file in zip(table.lines, files, strict=True):
        place = _place(folder, file)
        if place in seen:
            raise UserError(f"{table.said}, line {line}: {quoted(file)} stands in line {seen[place]} already.")
        seen[place] = line
    missing = [
        (line, file)
        for line, file in zip(table.lines, files, strict=True)
        if not os.path.isfile(os.path.join(folder, file))
    ]
    if missing:
        line, file = missing[0]
        more = f", and {len(missing) - 1} more are not" if len(missing) > 1 else ""
        raise UserError(f"{table.said}, line {line}: {quoted(file)} is no file in {folder}{more}.")


def _check_folders(table: Columns, folder: Path, files: Sequence[str]) -> None:
    """Folders that would count without a table count for nothing beside one."""
    for name, split in ((SHIFTS, "shift:NAME"), (OOD, "ood:NAME"), (UNLABELLED, UNLABELLED)):
        inside = os.path.join(folder, name, "")
        if (folder / name).is_dir() and not any(_place(folder, file).startswith(inside) for file in files):
            raise UserError(
                f"{table.said} lists nothing of {folder / name}: list its pictures with split={split}, or move the "
                "folder elsewhere."
            )


def _place(folder: Path, file: str) -> str:
    """The same for all ways to write a path."""
    return os.path.normpath(os.path.join(folder, file))  # a Path for each would take as long again


def _rows_by_part(table: Columns) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    splits = table.texts("split") if "split" in table.names else ["train"] * len(table.rows)
    for row, split in enumerate(splits):
        found[_part(table, row, split)].append(row)
    return dict(found)


def _part(table: Columns, row: int, split: str) -> str:
    if split in (*SPLITS, UNLABELLED):
        return split
    for prefix, kind in PREFIXES.items():
        if split.startswith(prefix) and split != prefix:
            return f"{kind}.{split.removeprefix(prefix)}"
    known = (*SPLITS, *(f"{prefix}NAME" for prefix in PREFIXES), UNLABELLED)
    raise UserError(
        f"{table.said}, line {table.lines[row]}: there is no split {quoted(split)}, only {', '.join(known)}."
        + nearest(split, known)
    )


def _has_labels(part: str) -> bool:
    return part != UNLABELLED and not part.startswith(f"{OOD}.")


def _check_labels(table: Columns, train: Sequence[int], labelled: Sequence[int]) -> None:
    """A class that training does not know would never be predicted."""
    cells = _names(table, "label", labelled)
    known = {cells[row] for row in train}
    unknown = next((row for row in labelled if known and cells[row] not in known), None)
    if unknown is not None:
        classes = sorted(known)
        raise UserError(
            f"{table.said}, line {table.lines[unknown]}: {quoted(cells[unknown])} is no class: training knows "
            f"{listed(classes)}.{nearest(cells[unknown], classes)}"
        )


def _numbered(table: Columns, column: str, rows: Sequence[int]) -> tuple[Int[Tensor, " N"], tuple[str, ...]]:
    """Numbers [N] of what a column names in some rows, -1 in the others; and the names by number."""
    cells = _names(table, column, rows)
    names = sorted({cells[row] for row in rows})
    if all(name.isdecimal() and name.isascii() for name in names):
        names.sort(key=int)
        left_out = next((n for n, name in enumerate(names) if name != str(n)), None)
        if left_out is not None:
            raise UserError(
                f"{table.said}: the column {column} holds {names[left_out]}, but not {left_out}: number from 0 without "
                "gaps, or give names."
            )
    number = {name: n for n, name in enumerate(names)}
    found = torch.full((len(cells),), -1)
    found[torch.tensor(rows, dtype=torch.int64)] = torch.tensor([number[cells[row]] for row in rows], dtype=torch.int64)
    return found, tuple(names)


def _names(table: Columns, column: str, rows: Sequence[int]) -> list[str]:
    """The cells of a column; where those of some rows are numbers, each as a whole one: pandas writes 1 as 1.0."""
    cells = table.texts(column)
    empty = next((row for row in rows if not cells[row]), None)
    if empty is not None:
        raise UserError(f"{table.said}, line {table.lines[empty]} has no {column}.")
    if not all(NUMBER.fullmatch(cells[row]) for row in rows):
        return cells
    for row in rows:
        whole, _, broken = cells[row].partition(".")
        if whole.startswith("-") or broken.strip("0"):
            raise UserError(
                f"{table.said}, line {table.lines[row]}: {column} {cells[row]} is no number of a class: number from 0 "
                "without gaps, or give names."
            )
        cells[row] = whole
    return cells


def _all_grouped(table: Columns, part: str, group: Int[Tensor, " N"]) -> bool:
    """Whether the rows of a part have groups, which all have or none."""
    without = int((group < 0).sum())
    if 0 < without < len(group) and _has_labels(part):
        raise UserError(f"{table.said}: {without} of {len(group)} rows of {part} have no group: give all one, or none.")
    return without == 0
