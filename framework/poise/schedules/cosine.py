"""A learning rate that falls along half a cosine."""

import math
from typing import Annotated

from annotated_types import Ge, Le, Lt

from poise.errors import UserError


def cosine(
    progress: float, warmup: Annotated[float, Ge(0), Lt(1)] = 0.0, final: Annotated[float, Ge(0), Le(1)] = 0.0
) -> float:
    """Factor on the learning rate: a linear rise over `warmup`, then half a cosine from 1 to `final`.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, 2017, arXiv 1608.03983 (eq.
    5, without restarts).

    Args:
        progress: share of the run done, in [0, 1].
        warmup: share of the run, in [0, 1).
        final: factor at the end, in [0, 1].

    Raises:
        UserError: a warmup outside [0, 1) or a final factor outside [0, 1].
    """
    if not 0.0 <= warmup < 1.0:
        raise UserError(f"schedule.warmup={warmup} is a share of the run: 0 or more, below 1.")
    if not 0.0 <= final <= 1.0:
        raise UserError(f"schedule.final={final} is a factor on the learning rate: 0 to 1.")
    if progress < warmup:
        return progress / warmup
    share = (progress - warmup) / (1.0 - warmup)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * share))
