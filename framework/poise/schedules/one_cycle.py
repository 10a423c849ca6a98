"""A learning rate that rises and falls along two lines."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from poise.errors import UserError


def one_cycle(
    progress: float,
    peak: Annotated[float, Gt(0), Lt(1)] = 0.5,
    start: Annotated[float, Ge(0), Le(1)] = 0.0,
    final: Annotated[float, Ge(0), Le(1)] = 0.0,
) -> float:
    """Factor on the learning rate: from `start` in a line to 1 at `peak`, then in a line to `final` at the end.

    Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates, 2018, arXiv
    1708.07120. Departure: the fall is one line, without a last, slower stretch. The defaults are those of
    github.com/locuslab/fast_adversarial on CIFAR-10; on MNIST it has its peak at 2/5.

    Args:
        progress: share of the run done, in [0, 1].
        peak: share of the run, in (0, 1).
        start: factor at the beginning, in [0, 1].
        final: factor at the end, in [0, 1].

    Raises:
        UserError: a peak outside (0, 1), or a factor outside [0, 1].
    """
    if not 0.0 < peak < 1.0:
        raise UserError(f"schedule.peak={peak} is a share of the run: above 0, below 1.")
    for name, factor in (("start", start), ("final", final)):
        if not 0.0 <= factor <= 1.0:
            raise UserError(f"schedule.{name}={factor} is a factor on the learning rate: 0 to 1.")
    if progress < peak:
        return start + (1.0 - start) * progress / peak
    return final + (1.0 - final) * (1.0 - progress) / (1.0 - peak)
