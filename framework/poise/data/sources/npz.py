"""Anybody's data, as one file of numpy arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Gt, Lt
from jaxtyping import Int
from torch import Tensor

from poise.data.archive import as_inputs, as_integers, as_names, read_archive
from poise.data.checks import check_inputs, check_range_of
from poise.data.dataset import Arrays, Splits
from poise.data.partition import stratified
from poise.data.source import DataSource, OtherThings
from poise.data.stored import Inputs
from poise.errors import UserError

SPLITS = ("train", "val", "calibration", "test")
SHIFT, OOD = ("x_shift_", "y_shift_"), "x_ood_"  # beginnings of names
KNOWN = (*(f"{kind}_{split}" for split in SPLITS for kind in ("x", "y", "group")), "x_unlabelled", "class_names")
MOST_CLASSES = 100_000  # that labels alone can speak of


class Npz(DataSource):
    """Arrays by name from an .npz file: x_train, y_train, x_test, y_test, and any of the following.

    x_val with y_val and x_calibration with y_calibration (else a share of the training rows, every class
    alike); group_train, group_val, group_calibration, group_test (integers from 0); x_unlabelled, a stream;
    x_shift_<name> with y_shift_<name>, a named shift, and x_ood_<name>, a test set of other things; class_names.
    Without x_train the file is there to evaluate on. Inputs are uint8 or floats (images within
    0…1): [N, D] is tabular, [N, H, W] becomes [N, 1, H, W], [N, H, W, C] with 1, 3 or 4 channels becomes
    [N, C, H, W]. Labels are integers from 0. Nothing is unpickled.

    Args:
        path: of the file.
        val: share of the training rows that choose the model, where the file has no x_val.
        calibration: share of the training rows that fits calibrators, where the file has no x_calibration.
    """

    files: ClassVar[frozenset[str]] = frozenset({"path"})
    valid_range: ClassVar[tuple[float, float] | None] = None  # the arrays decide

    def __init__(
        self, path: str, val: Annotated[float, Gt(0), Lt(1)] = 0.1, calibration: Annotated[float, Gt(0), Lt(1)] = 0.1
    ) -> None:
        self.path = path
        self.val = val
        self.calibration = calibration

    def load(self, seed: int) -> Splits:
        """The file's data.

        Raises:
            UserError: no such file, not an .npz, arrays that are missing, unknown or do not fit each other.
        """
        file = read_archive(self.path, ("x_test", "y_test"), KNOWN, prefixes=(*SHIFT, OOD))
        splits = {split: _split(file, split) for split in SPLITS if f"x_{split}" in file}
        # the training rows say what the data are, where there are any
        first = splits.get("train", splits["test"])
        if len(first) == 0:
            raise UserError(f"{self.path}: {'x_train' if 'train' in splits else 'x_test'} is empty.")
        kind, valid_range = _kind_of(first.x)
        names = as_names(file["class_names"]) if "class_names" in file else ()
        if "train" in splits:
            num_classes = len(names) or _count_classes(self.path, first.label)
            # before the rows are cut, so that an error names the row in the file
            check_inputs("train", first.x, valid_range)
            check_range_of("train", "label", first.label, 0, num_classes)
            if not names:
                _check_gaps(self.path, first.label)
            splits |= self._held_out(splits, seed)
        else:
            num_classes = len(names) or _classes_seen(self.path, splits)
            splits = dict.fromkeys(SPLITS, first.none()) | splits
        return Splits(
            train=splits["train"],
            val=splits["val"],
            calibration=splits["calibration"],
            test=splits["test"],
            num_classes=num_classes,
            class_names=names or tuple(str(c) for c in range(num_classes)),
            valid_range=valid_range,
            kind=kind,
            streams=_streams(file),
            shifts={name: _split(file, f"shift_{name}") for name in _named(file, *SHIFT)},
            ood={name: _unlabelled(file, f"{OOD}{name}") for name in _named(file, OOD)},
        )

    @property
    def file_name(self) -> str:
        """Of the file, without its ending."""
        return Path(self.path).stem

    def other_things(self, seed: int, input_shape: tuple[int, ...]) -> Mapping[str, OtherThings]:
        """The x_ood_<name> of the file, else its x_test; it needs to have nothing else.

        Raises:
            UserError: neither of them; as `load`.
        """
        file = read_archive(self.path, (), KNOWN, prefixes=(*SHIFT, OOD))
        names = {name: f"{OOD}{name}" for name in _named(file, OOD)} or {"": "x_test"}
        if not {*names.values()} <= {*file}:
            given = ", ".join(file) or "no arrays"
            raise UserError(f"{self.path} has neither {OOD}<name> nor x_test to take for other things; it has {given}.")
        return {name: _other_thing(x_name, file[x_name]) for name, x_name in names.items()}

    def _held_out(self, splits: dict[str, Arrays], seed: int) -> dict[str, Arrays]:
        """The splits that the file does not have, taken from train, and what is left of train."""
        wanted = {"val": self.val, "calibration": self.calibration}
        shares = {name: share for name, share in wanted.items() if name not in splits}
        if not shares:
            return {}
        train = splits["train"]
        rows = stratified(train.label, shares, seed)
        return {name: train.rows(chosen) for name, chosen in rows.items()}


def _split(file: dict[str, np.ndarray], split: str) -> Arrays:
    x_name, y_name, group_name = f"x_{split}", f"y_{split}", f"group_{split}"
    for name, other in ((x_name, y_name), (y_name, x_name)):
        if name not in file:
            raise UserError(f"the data file has {other} but no {name}.")
    x = as_inputs(x_name, file[x_name])
    group = as_integers(group_name, file[group_name], len(x)) if group_name in file else None
    return Arrays(x, as_integers(y_name, file[y_name], len(x)), group)


def _streams(file: dict[str, np.ndarray]) -> dict[str, Arrays]:
    return {"unlabelled": _unlabelled(file, "x_unlabelled")} if "x_unlabelled" in file else {}


def _unlabelled(file: dict[str, np.ndarray], x_name: str) -> Arrays:
    x = as_inputs(x_name, file[x_name])
    return Arrays(x, torch.full((len(x),), -1))


def _other_thing(x_name: str, array: np.ndarray) -> OtherThings:
    x = as_inputs(x_name, array)
    kind, valid_range = _kind_of(x)
    check_inputs(x_name, x, valid_range)
    return OtherThings(x, kind, valid_range)


def _kind_of(x: Inputs) -> tuple[Literal["image", "tabular"], tuple[float, float] | None]:
    """What inputs are by their shape, and the range that they lie in."""
    kind: Literal["image", "tabular"] = "image" if x.ndim > 2 else "tabular"
    return kind, (0.0, 1.0) if kind == "image" or x.dtype == torch.uint8 else None


def _named(file: dict[str, np.ndarray], *prefixes: str) -> list[str]:
    """What follows any of these beginnings in the names of arrays, each once."""
    return list(dict.fromkeys(name.removeprefix(p) for name in file for p in prefixes if name.startswith(p)))


def _count_classes(path: str, label: Int[Tensor, " N"]) -> int:
    largest = int(label.max())
    if largest >= max(len(label), 2):
        raise UserError(
            f"{path}: y_train holds {largest}, so there would be {largest + 1} classes for {len(label)} "
            "examples: number classes from 0."
        )
    return max(largest + 1, 2)


def _classes_seen(path: str, splits: Mapping[str, Arrays]) -> int:
    """As many classes as the labels of data to evaluate on speak of; a few examples need not have all."""
    name, largest = max(((name, int(s.label.max())) for name, s in splits.items() if len(s)), key=lambda item: item[1])
    if largest >= MOST_CLASSES:
        raise UserError(f"{path}: y_{name} holds {largest}: number classes from 0, or give class_names.")
    return max(largest + 1, 2)


def _check_gaps(path: str, label: Int[Tensor, " N"]) -> None:
    """Labels that skip a number most likely count from 1, or are no classes."""
    missing = (torch.bincount(label) == 0).nonzero()
    if len(missing):
        raise UserError(
            f"{path}: class {int(missing[0])} has no training example: number classes from 0 without gaps, "
            "or give class_names."
        )
