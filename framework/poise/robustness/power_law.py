"""How errors under attack grow with the radius."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

LEAST, MOST = 1e-3, 0.3  # errors beyond which a law of small radii says nothing
FEWEST = 5  # radii


@dataclass(frozen=True)
class PowerLaw:
    """error = factor · radius^exponent, and how well it fits.

    Args:
        factor: A, in units of the input to the power of -exponent.
        exponent: B.
        r2: share of the variance of log error that the law explains.
        low: the smallest radius that it was fitted to.
        high: the largest.
        radii: how many it was fitted to.
    """

    factor: float
    exponent: float
    r2: float
    low: float
    high: float
    radii: int

    def at(self, radius: float) -> float:
        """The error at a radius."""
        return float(self.factor * radius**self.exponent)


def fits(radius: float, error: float) -> bool:
    """Whether a law of small radii is fitted to this point: an error between 0.1 % and 30 %."""
    return radius > 0 and LEAST < error < MOST


def power_law(radii: Sequence[float], errors: Sequence[float]) -> PowerLaw | None:
    """The law by least squares of log error on log radius; None where fewer than five points are fit for it.

    Source: Cubuk, Zoph, Schoenholz, Le: Intriguing Properties of Adversarial Examples, 2017, arXiv 1711.02846, who
    find such a law for many networks and attacks. First-order reasoning gives an exponent of one for small radii.
    They state neither range nor number of the radii to fit to: those here are ours.

    Args:
        radii: in units of the input.
        errors: at each, the share of examples, of those right as they are, that the attack makes wrong.
    """
    chosen = [fits(*point) for point in zip(radii, errors, strict=True)]
    x = [math.log(radius) for radius in compress(radii, chosen)]
    y = [math.log(error) for error in compress(errors, chosen)]
    if len(x) < FEWEST:
        return None
    middle, height = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle) ** 2 for a in x)
    exponent = sum((a - middle) * (b - height) for a, b in zip(x, y, strict=True)) / spread
    level = height - exponent * middle
    total = sum((b - height) ** 2 for b in y)
    rest = sum((b - level - exponent * a) ** 2 for a, b in zip(x, y, strict=True))
    r2 = 1 - rest / total if total else 1.0
    return PowerLaw(math.exp(level), exponent, r2, math.exp(min(x)), math.exp(max(x)), len(x))
