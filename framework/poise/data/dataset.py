"""One split, and the splits of one problem."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.utils.data import Dataset

from poise.data.checks import check_inputs, check_integers, check_range_of, check_several_classes, check_tensor
from poise.data.stored import Change, Inputs, Stored, changed, rows, taken
from poise.errors import UserError

MOST_GROUPS = 1000  # that are taken without names where there are fewer examples
RESERVED = ("train", "val", "calibration", "test", "shifts")  # the last is what they have in common
_NAME = re.compile(r"\w[\w.-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Arrays(Dataset[dict[str, Tensor]]):
    """One split.

    Args:
        x: inputs [N, *input], a tensor or stored inputs of uint8 (0…255 stands for 0…1) or floating point.
        label: classes [N], integers; -1 where a class is not known (streams and OOD sets only).
        group: sub-populations or environments [N], integers from 0.

    Raises:
        UserError: what is no tensor, numbers of rows that differ, labels or groups that are not integers, another type
            of input.
    """

    def __init__(self, x: Any, label: Any, group: Any = None) -> None:
        x, label = x if isinstance(x, Stored) else check_tensor(x, "x"), check_tensor(label, "label")
        if x.dtype != torch.uint8 and not x.is_floating_point():
            raise UserError(f"x holds {_name(x)}: give uint8 (0 to 255) or floating point.")
        if x.ndim < 2:
            raise UserError(f"x has shape {tuple(x.shape)}: give one row per example, [N, ...].")
        self.x: Inputs = x
        self.label = check_integers(label, "label", len(x))
        self.group = None if group is None else check_integers(check_tensor(group, "group"), "group", len(x))

    def __len__(self) -> int:
        return len(self.x)

    def __deepcopy__(self, memo: dict[int, object]) -> "Arrays":
        return self  # nobody writes to it, and it is large

    def __getitem__(self, index: int) -> dict[str, Shaped[Tensor, "B ..."]]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} examples")
        row = self.fetch(torch.tensor([index % len(self)]))
        return {name: value[0] for name, value in row.items()}

    def rows(self, chosen: Shaped[Tensor, " M"]) -> "Arrays":
        """The examples at these positions, or where a mask is true; of inputs that are stored nothing is read."""
        return Arrays(rows(self.x, chosen), self.label[chosen], None if self.group is None else self.group[chosen])

    def changed(self, change: Change) -> "Arrays":
        """The same examples with other inputs: see `poise.data.stored.changed`."""
        return Arrays(changed(self.x, change), self.label, self.group)

    def none(self) -> "Arrays":
        """None of its examples."""
        return self.rows(torch.empty(0, dtype=torch.int64))

    def fetch(self, indices: Int[Tensor, " B"]) -> dict[str, Shaped[Tensor, "B ..."]]:
        """Many rows at once: x [B, *input], label, index and, where there are groups, group, each [B]."""
        batch = {"x": taken(self.x, indices), "label": self.label[indices], "index": indices}
        if self.group is not None:
            batch["group"] = self.group[indices]
        return batch


@dataclass(frozen=True)
class Splits:
    """The data of one problem, checked.

    Args:
        train, val, calibration, test: the four splits; `val` chooses the model, `calibration` fits
            calibrators. Without training examples the data are there to evaluate on, and only test is needed.
        num_classes: C, 2 or more.
        class_names: one each; numbers where none are given.
        group_names: one each where the groups have names; without them a group is below the number of examples in
            the four splits, or below 1000.
        valid_range: what inputs may be (uint8 stands for 0…1); None for data without one.
        kind: of the inputs.
        streams: further data for training, by name; not labelled where labels are -1.
        shifts: further test sets with the same classes, by name, which is no name of another split.
        ood: test sets of other things, by name; their labels mean nothing.

    Raises:
        UserError: an empty split, a single class in train or test, labels outside 0…C-1, inputs that are not
            finite or outside the valid range, negative or far too large groups, shapes that differ; names the split
            and the first such row. Names with control characters, too, which would reach terminals, and shifts or OOD
            sets whose names cannot be those of files or are another split's.
    """

    train: Arrays
    val: Arrays
    calibration: Arrays
    test: Arrays
    num_classes: int
    class_names: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    valid_range: tuple[float, float] | None = (0.0, 1.0)
    kind: Literal["image", "tabular", "sequence"] = "image"
    streams: Mapping[str, Arrays] = field(default_factory=dict)
    shifts: Mapping[str, Arrays] = field(default_factory=dict)
    ood: Mapping[str, Arrays] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.class_names:
            object.__setattr__(self, "class_names", tuple(map(str, range(self.num_classes))))
        if self.num_classes < 2 or len(self.class_names) != self.num_classes:
            raise UserError(f"{self.num_classes} classes with {len(self.class_names)} names: give 2 or more, named.")
        if not all(self.class_names) or len(set(self.class_names)) != self.num_classes:
            same = next(name for name, count in Counter(self.class_names).items() if not name or count > 1)
            raise UserError(f"a class name is {same!r}, empty or given twice: each class has a name of its own.")
        for name in (*self.class_names, *self.group_names):
            if _CONTROL.search(name):
                raise UserError(
                    f"the name {name!r} has a control character: give each class and group one line of text."
                )
        if self.valid_range is not None and not -math.inf < self.valid_range[0] < self.valid_range[1] < math.inf:
            raise UserError(f"valid_range={self.valid_range} has to be a lower and a higher number, or None.")
        for name in (*self.shifts, *self.ood):
            _check_name(name)
        labelled = {**self.main, **{f"shifts.{name}": split for name, split in self.shifts.items()}}
        for name, split in labelled.items():
            self._check_inputs(name, split)
            check_range_of(name, "label", split.label, 0, self.num_classes)
        for name, split in self.streams.items():
            self._check_inputs(f"streams.{name}", split)
            check_range_of(f"streams.{name}", "label", split.label, -1, self.num_classes)
        for name, split in self.ood.items():
            self._check_inputs(f"ood.{name}", split)
        for name in ("train", "test") if self.trains else ("test",):
            check_several_classes(name, self.main[name].label)

    def _check_inputs(self, name: str, split: Arrays) -> None:
        if len(split) == 0 and (self.trains or name not in ("train", "val", "calibration")):
            share = f" A larger data.{name} takes more." if name in ("val", "calibration") else ""
            raise UserError(f"{name} is empty: every split needs examples.{share}")
        if tuple(split.x.shape[1:]) != self.input_shape:
            first = "train" if self.trains else "test"
            raise UserError(
                f"{name} has inputs of shape {tuple(split.x.shape[1:])}, {first} of shape {self.input_shape}."
            )
        check_inputs(name, split.x, self.valid_range)
        if split.group is not None and len(split):
            self._check_groups(name, split.group)

    def _check_groups(self, name: str, group: Int[Tensor, " N"]) -> None:
        """Groups are counted and weighted one by one, up to the largest: ids would take memory without end."""
        check_range_of(name, "group", group, 0, len(self.group_names) or None)
        most = max(MOST_GROUPS, sum(map(len, self.main.values())))
        if not self.group_names and (largest := int(group.max())) >= most:
            raise UserError(
                f"{name}: a group is {largest}, where {most - 1} is the largest allowed: number the groups from 0, as "
                "torch.unique(group, return_inverse=True)[1] does."
            )

    @property
    def main(self) -> dict[str, Arrays]:
        """The four splits by name."""
        return {"train": self.train, "val": self.val, "calibration": self.calibration, "test": self.test}

    @property
    def further(self) -> dict[str, Arrays]:
        """The named shifts, as 'shifts.NAME', and OOD sets, as 'ood.NAME'."""
        shifts = {f"shifts.{name}": split for name, split in self.shifts.items()}
        return shifts | {f"ood.{name}": split for name, split in self.ood.items()}

    @property
    def trains(self) -> bool:
        """Whether there is something to train on."""
        return len(self.train) > 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple((self.train if self.trains else self.test).x.shape[1:])

    @property
    def num_groups(self) -> int:
        """How many groups there are; 0 for data without them."""
        groups = [split.group for split in self.main.values() if split.group is not None and len(split)]
        return len(self.group_names) or max((int(group.max()) + 1 for group in groups), default=0)


def names_a_set(name: str) -> bool:
    """Whether reports and files can call a further test set so."""
    return _NAME.fullmatch(name) is not None and name not in RESERVED


def _check_name(name: str) -> None:
    if not names_a_set(name):
        raise UserError(
            f"a shift or OOD set is called {name!r}: take letters, digits, '_', '-' and '.', and none of "
            f"{', '.join(RESERVED)}."
        )


def _name(x: Inputs) -> str:
    return str(x.dtype).removeprefix("torch.")
