"""What numbers of a few seeds say of a claim: an interval of the paired differences, and a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Literal

from scipy.stats import t

CONFIDENCE = 0.95
RULE = (
    f"shown where the {CONFIDENCE:.0%} t-interval over the seeds excludes zero in the paper's direction; null where it "
    "excludes the paper's effect (of an effect without a number: where it lies below zero); else undecided"
)

Verdict = Literal["shown", "null", "undecided"]


@dataclass(frozen=True)
class Interval:
    """A mean and the t-interval around it.

    Args:
        mean: of the values.
        low, high: its ends.
    """

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """The interval of two values or more, taken as independent draws of one normal distribution."""
        centre = mean(values)
        half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
        return cls(centre, centre - half, centre + half)


def judged(interval: Interval, paper: float | None) -> Verdict:
    """The verdict on an effect that is positive in the paper's direction.

    Args:
        interval: of what was measured.
        paper: the paper's own effect, above zero; None where it gives a direction and no number.
    """
    if interval.low > 0:
        return "shown"
    excluded = interval.high < (0 if paper is None else paper)
    return "null" if excluded else "undecided"
