"""Less to train on."""

from dataclasses import replace
from typing import Annotated

from annotated_types import Gt, Lt

from poise.data.dataset import Splits
from poise.data.partition import stratified
from poise.data.wrapper import Wrapper
from poise.errors import UserError


class Subset(Wrapper):
    """A share of the training split, every class alike; the other splits stay whole.

    Args:
        fraction: of the training rows, above 0, below 1.
    """

    def __init__(self, fraction: Annotated[float, Gt(0), Lt(1)]) -> None:
        self.fraction = fraction

    def wrap(self, splits: Splits, seed: int) -> Splits:
        """The splits with fewer training rows.

        Raises:
            UserError: a fraction out of range, or one that leaves fewer than two classes.
        """
        train = splits.train
        rows = stratified(train.label, {"subset.fraction": self.fraction}, seed)["subset.fraction"]
        if not len(rows):
            raise UserError(f"subset.fraction={self.fraction:g} of {len(train)} training examples is none: take more")
        return replace(splits, train=train.rows(rows))
