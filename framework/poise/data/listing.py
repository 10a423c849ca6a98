"""Which pictures a folder holds, for which split and of which class: by its own folders, or by its metadata.csv."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from poise.errors import UserError, nearest
from poise.files.pictures import EXTENSIONS, entries, files_in, is_folder, is_picture, pictures_in
from poise.files.shown import listed

SPLITS = ("train", "val", "calibration", "test")
SHIFTS, OOD, UNLABELLED = "shifts", "ood", "unlabelled"
KNOWN = (*SPLITS, SHIFTS, OOD, UNLABELLED)
ALIKE = {"training": "train", "testing": "test", "valid": "val", "validation": "val", "unlabeled": UNLABELLED}


@dataclass(frozen=True)
class Part:
    """Pictures of one split.

    Args:
        files: relative to the folder, in an order that is the same on every machine.
        label: classes [N], -1 where they are not known.
        group: [N], or None.
        left_out: files among them that are no pictures by their names.
    """

    files: Sequence[str]
    label: Int[Tensor, " N"]
    group: Int[Tensor, " N"] | None = None
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class Listing:
    """Pictures of a folder.

    Args:
        folder: that they are in.
        parts: by 'train', 'val', 'calibration', 'test', 'shifts.NAME', 'ood.NAME' or 'unlabelled'; what is not there
            has no pictures.
        class_names: by number.
        group_names: by number.
    """

    folder: Path
    parts: Mapping[str, Part]
    class_names: tuple[str, ...]
    group_names: tuple[str, ...] = field(default=())


def list_folders(folder: Path) -> Listing:
    """The pictures of a folder with folders for classes, which may lie in folders for splits.

    `train`, `val`, `calibration` and `test` hold a folder for each class, or the folder itself does; `shifts/NAME` too,
    while `ood/NAME` and `unlabelled` hold pictures alone. In those, pictures may lie at any depth. Classes are numbered
    in the order of their names, by the training split where there is one. Links are followed; what is hidden is not
    looked at.

    Raises:
        UserError: no pictures, pictures or folders where none are expected, a class that training does not know.
    """
    inside = _folders(folder)
    splits = {name: name for name in SPLITS if name in inside}
    others = [name for name in inside if name not in KNOWN]
    if splits:
        _refuse_others(folder, others, splits)
        class_names, parts = list_splits(folder, splits)
    else:
        _refuse_alike(folder, others)
        class_names = _several(folder, others)
        parts = {"train": _labelled(folder, "", class_names, others)}
    for name in (SHIFTS, OOD):
        _refuse_nameless(folder / name)
    if SHIFTS in inside:
        shifts = {f"{SHIFTS}.{name}": f"{SHIFTS}/{name}" for name in _folders(folder / SHIFTS)}
        parts |= {name: _labelled(folder, place, class_names) for name, place in shifts.items()}
    if OOD in inside:
        parts |= {f"{OOD}.{name}": _unlabelled(folder, f"{OOD}/{name}") for name in _folders(folder / OOD)}
    if UNLABELLED in inside:
        parts[UNLABELLED] = _unlabelled(folder, UNLABELLED)
    return Listing(folder, parts, class_names)


def list_other_things(folder: Path) -> Listing:
    """The pictures of a folder as things of no class: of each `ood/NAME` by name, else all in `test`, else all, as "".

    Raises:
        UserError: pictures in `ood` that lie in no folder with a name.
    """
    inside = _folders(folder)
    if OOD in inside:
        _refuse_nameless(folder / OOD)
        return Listing(folder, {name: _unlabelled(folder, f"{OOD}/{name}") for name in _folders(folder / OOD)}, ())
    return Listing(folder, {"": _unlabelled(folder, "test" if "test" in inside else "")}, ())


def list_splits(folder: Path, places: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, Part]]:
    """The names of classes, and the parts of a folder whose splits lie in these places, a folder for each class.

    Raises:
        UserError: neither train nor test; as `list_folders`.
    """
    first = places.get("train") or places.get("test")
    if first is None:
        raise UserError(f"{folder} holds {listed(places.values())}, but nothing to train or test on.")
    class_names = _several(folder / first, _folders(folder / first))
    return class_names, {name: _labelled(folder, place, class_names) for name, place in places.items()}


def _several(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    if len(names) < 2:
        _refuse_loose(folder)
        held = f"only {names[0]}" if names else "none"
        raise UserError(f"{folder} has to hold a folder of pictures for each class, two or more: it holds {held}.")
    return tuple(names)


def _refuse_loose(folder: Path) -> None:
    loose = _loose(folder)
    if loose is not None:
        raise UserError(
            f"{folder / loose} lies in no class's folder: give each class a folder in {folder}, or list the pictures "
            "in a metadata.csv with the columns file and label."
        )


def _refuse_nameless(folder: Path) -> None:
    loose = _loose(folder) if folder.is_dir() else None
    if loose is not None:
        raise UserError(f"{folder / loose} lies in no folder with a name: put it in {folder / 'NAME'}, under any name.")


def _loose(folder: Path) -> str | None:
    """A picture in it that lies in no folder of it."""
    return next((entry.name for entry in entries(folder) if is_picture(entry.name)), None)


def _labelled(folder: Path, place: str, class_names: Sequence[str], inside: Sequence[str] | None = None) -> Part:
    """The pictures in the class folders of a split."""
    _refuse_loose(folder / place)
    files: list[str] = []
    left_out: list[str] = []
    label: list[int] = []
    for name in _folders(folder / place) if inside is None else inside:
        if name not in class_names:
            raise UserError(
                f"{folder / place / name} is the folder of no class: training knows {listed(class_names)}."
                + nearest(name, class_names)
            )
        found, others = _told_apart(folder, os.path.join(place, name))
        if not found:
            raise UserError(f"{folder / place / name} holds no picture ({', '.join(EXTENSIONS)}): fill or remove it.")
        files += found
        left_out += others
        label += [class_names.index(name)] * len(found)
    return Part(files, torch.tensor(label, dtype=torch.int64), left_out=left_out)


def _unlabelled(folder: Path, place: str) -> Part:
    files, left_out = _told_apart(folder, place)
    return Part(files, torch.full((len(files),), -1), left_out=left_out)


def _told_apart(folder: Path, place: str) -> tuple[list[str], list[str]]:
    """The pictures in a place of the folder, and the other files there."""
    found = list(files_in(folder, place))
    return [name for name in found if is_picture(name)], [name for name in found if not is_picture(name)]


def _refuse_others(folder: Path, others: Sequence[str], splits: Iterable[str]) -> None:
    """A folder `valid` beside `train` would be left out, and its pictures taken from train, without a word."""
    for name in others:
        if next(pictures_in(folder, name), None) is not None:
            meant = _meant(name)
            raise UserError(
                f"{folder / name} holds pictures, and is none of {', '.join(KNOWN)}, while {listed(splits)} beside it "
                "is taken for a split, not for a class: rename one, or move it elsewhere."
                + (f" Did you mean {meant!r}?" if meant else "")
            )


def _refuse_alike(folder: Path, names: Sequence[str]) -> None:
    """Folders `Train` and `Test` would be two classes."""
    for name in names:
        meant = _meant(name)
        if meant and _folders(folder / name):
            raise UserError(
                f"{folder / name} holds folders, as those of splits do, but by its name it is a class: rename it. "
                f"Did you mean {meant!r}?"
            )


def _meant(name: str) -> str:
    """The folder of ours that a name is another way to write of; "" where there is none."""
    found = ALIKE.get(name.casefold(), name.casefold())
    return found if found in KNOWN else ""


def _folders(folder: Path) -> list[str]:
    return [entry.name for entry in entries(folder) if is_folder(entry)]
