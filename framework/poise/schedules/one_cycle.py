"""A learning rate that rises and falls."""

import math
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from poise.errors import UserError


def one_cycle(
    progress: float,
    peak: Annotated[float, Gt(0), Lt(1)] = 0.5,
    start: Annotated[float, Ge(0), Le(1)] = 0.0,
    final: Annotated[float, Ge(0), Le(1)] = 0.0,
    along: Literal["line", "cosine"] = "line",
) -> float:
    """Factor on the learning rate: from `start` to 1 at `peak`, then to `final` at the end.

    Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates, 2018, arXiv
    1708.07120. Departure: the fall is one stretch, without a last, slower one. The defaults are those of
    github.com/locuslab/fast_adversarial on CIFAR-10; on MNIST it has its peak at 2/5. Along half cosines, with a peak
    at 0.3, a start of 1/25 and a final factor of 4e-6, it is PyTorch's OneCycleLR, which cycles the momentum as well.

    Args:
        progress: share of the run done, in [0, 1].
        peak: share of the run, in (0, 1).
        start: factor at the beginning, in [0, 1].
        final: factor at the end, in [0, 1].
        along: shape of rise and fall: a line, or half a cosine.

    Raises:
        UserError: a peak outside (0, 1), or a factor outside [0, 1].
    """
    if not 0.0 < peak < 1.0:
        raise UserError(f"schedule.peak={peak} is a share of the run: above 0, below 1.")
    for name, factor in (("start", start), ("final", final)):
        if not 0.0 <= factor <= 1.0:
            raise UserError(f"schedule.{name}={factor} is a factor on the learning rate: 0 to 1.")
    if progress < peak:
        return start + (1.0 - start) * _share(progress / peak, along)
    return final + (1.0 - final) * _share((1.0 - progress) / (1.0 - peak), along)


def _share(way: float, along: str) -> float:
    """How much of a rise from 0 to 1 is done after this share of the way."""
    return way if along == "line" else 0.5 * (1.0 - math.cos(math.pi * way))
