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


def stand_in(
    shape: Sequence[int],
    classes: int,
    train: int,
    test: int,
    shares: Mapping[str, float],
    groups: int = 0,
) -> Splits:
    """Blank pictures of classes, and groups, that are all alike large.

    Args:
        shape: of one input.
        classes: C.
        train: examples that train, val and calibration share.
        test: examples of the test split.
        shares: of val and calibration in `train`.
        groups: G; 0 for data without them.

    Raises:
        UserError: too few examples for splits that hold two classes each.
    """

    def blank(rows: int) -> Arrays:
        number = torch.arange(rows)
        return Arrays(Blank(rows, shape), number % classes, number // classes % groups if groups else None)

    held_out = {name: round(share * train) for name, share in shares.items()}
    return Splits(
        train=blank(max(0, train - sum(held_out.values()))),
        val=blank(held_out["val"]),
        calibration=blank(held_out["calibration"]),
        test=blank(test),
        num_classes=classes,
        group_names=tuple(map(str, range(groups))),
    )
