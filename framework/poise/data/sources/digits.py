"""Handwritten digits that need no download."""

from typing import Annotated

from annotated_types import Gt, Lt

from poise.data.dataset import Arrays, Splits
from poise.data.glyphs import load_glyphs
from poise.data.partition import stratified
from poise.data.source import DataSource


class Digits(DataSource):
    """The 1797 handwritten digits of 8x8 pixels that come with scikit-learn; x is [N, 1, 8, 8] in 0…1.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998 (its test part).

    Args:
        val: share of the examples that choose the model.
        calibration: share that fits calibrators.
        test: share that the report is about.
    """

    def __init__(
        self,
        val: Annotated[float, Gt(0), Lt(1)] = 0.1,
        calibration: Annotated[float, Gt(0), Lt(1)] = 0.1,
        test: Annotated[float, Gt(0), Lt(1)] = 0.2,
    ) -> None:
        self.val = val
        self.calibration = calibration
        self.test = test

    def load(self, seed: int) -> Splits:
        """The ten digits, every split with all classes alike."""
        x, digit = load_glyphs()
        rows = stratified(digit, {"val": self.val, "calibration": self.calibration, "test": self.test}, seed)
        splits = {name: Arrays(x[r], digit[r]) for name, r in rows.items()}
        return Splits(
            train=splits["train"],
            val=splits["val"],
            calibration=splits["calibration"],
            test=splits["test"],
            num_classes=10,
            class_names=tuple(str(c) for c in range(10)),
        )
