"""Digits whose colour goes along with the label, but for a minority."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from poise.data.colors import correlated, tinted
from poise.data.dataset import Arrays, Splits
from poise.data.glyphs import load_glyphs
from poise.data.keys import generator
from poise.data.partition import stratified
from poise.data.source import DataSource
from poise.errors import UserError


class ColoredDigits(DataSource):
    """Is the digit 5 or more? In red or green, where the colour is a spurious hint; x is [N, 3, 8, 8] in 0…1.

    With b = 1[digit >= 5]: the label is y = b XOR Bernoulli(label_flips); the colour is k = y with
    probability (1 + correlation) / 2, else 1 - y (it follows the noisy label); the glyph stands in channel k
    (0 red, 1 green) and the other channels are 0; the group is 2 * y + k. So the mean of
    (2y-1)(2k-1) is `correlation`, and the posterior is known:
    logit P(y=1|b,k) = (2b-1) log((1-e)/e) + (2k-1) log((1+c)/(1-c)), e label_flips and c the correlation.

    After M. Arjovsky, L. Bottou, I. Gulrajani, D. Lopez-Paz, Invariant Risk Minimization, 2019, arXiv
    1907.02893, whose environments have labels flipped with probability 0.25 and correlations 0.6 and 0.8 (train) and
    -0.8 (test). Here: 8x8 digits, one training environment, a third channel of zeros.

    Args:
        correlation: of label and colour in train, val and calibration, from -1 to 1.
        test_correlation: the same in test; 0 makes all groups of a class equally large.
        label_flips: probability that a label is flipped, from 0 to 0.5, in every split.
        val: share of the examples that choose the model.
        calibration: share that fits calibrators.
        test: share that the report is about.
    """

    def __init__(
        self,
        correlation: Annotated[float, Ge(-1), Le(1)] = 0.9,
        test_correlation: Annotated[float, Ge(-1), Le(1)] = 0.0,
        label_flips: Annotated[float, Ge(0), Le(0.5)] = 0.0,
        val: Annotated[float, Gt(0), Lt(1)] = 0.1,
        calibration: Annotated[float, Gt(0), Lt(1)] = 0.1,
        test: Annotated[float, Gt(0), Lt(1)] = 0.2,
    ) -> None:
        for name, value in (("correlation", correlation), ("test_correlation", test_correlation)):
            if not -1.0 <= value <= 1.0:
                raise UserError(f"data.{name}={value} is a correlation: -1 to 1.")
        if not 0.0 <= label_flips <= 0.5:
            raise UserError(f"data.label_flips={label_flips} is the probability of a flipped label: 0 to 0.5.")
        self.correlation = correlation
        self.test_correlation = test_correlation
        self.label_flips = label_flips
        self.val = val
        self.calibration = calibration
        self.test = test

    def load(self, seed: int) -> Splits:
        """Two classes, four groups named like 'y=0,red'."""
        x, digit = load_glyphs()
        rows = stratified(digit, {"val": self.val, "calibration": self.calibration, "test": self.test}, seed)
        splits = {name: self._colored(name, x[r], digit[r], seed) for name, r in rows.items()}
        return Splits(
            train=splits["train"],
            val=splits["val"],
            calibration=splits["calibration"],
            test=splits["test"],
            num_classes=2,
            class_names=("0-4", "5-9"),
            group_names=("y=0,red", "y=0,green", "y=1,red", "y=1,green"),
        )

    def _colored(self, split: str, glyph: Tensor, digit: Tensor, seed: int) -> Arrays:
        keyed = generator(seed, split, "label_noise")
        flipped = torch.rand(len(digit), generator=keyed, dtype=torch.float64) < self.label_flips
        label = (digit >= 5).long() ^ flipped.long()
        correlation = self.test_correlation if split == "test" else self.correlation
        color = correlated(label, 2, correlation, generator(seed, split, "color"))
        return Arrays(tinted(glyph, color), label, 2 * label + color)
