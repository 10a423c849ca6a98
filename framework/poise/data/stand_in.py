"""Splits of given sizes without contents: what a plan needs of data that are not there."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from poise.data.dataset import Arrays, Splits
from poise.data.stored import Stored


class Blank(Stored):
    """Pictures that are black, and take no memory until they are read."""

    def __init__(self, rows: int, shape: Sequence[int]) -> None:
        super().__init__((rows, *shape), torch.uint8)

    def read(self, positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
        return torch.zeros(len(positions), *self.shape[1:], dtype=self.dtype)


def stand_in(shape: Sequence[int], classes: int, sizes: Mapping[str, int], groups: int = 0) -> Splits:
    """Blank pictures of classes, and groups, that are all alike large.

    Args:
        shape: of one input.
        classes: C.
        sizes: examples of each of the four splits.
        groups: G; 0 for data without them.

    Raises:
        UserError: too few examples for splits that hold two classes each.
    """

    def blank(rows: int) -> Arrays:
        number = torch.arange(rows)
        return Arrays(Blank(rows, shape), number % classes, number // classes % groups if groups else None)

    splits = {name: blank(rows) for name, rows in sizes.items()}
    return Splits(
        train=splits["train"],
        val=splits["val"],
        calibration=splits["calibration"],
        test=splits["test"],
        num_classes=classes,
        group_names=tuple(map(str, range(groups))),
    )


def sizes_of(train: int, test: int, val: float, calibration: float) -> dict[str, int]:
    """Examples of the four splits where the official training set has shares of val and calibration."""
    held_out = {"val": round(val * train), "calibration": round(calibration * train)}
    return {"train": max(0, train - sum(held_out.values())), **held_out, "test": test}
