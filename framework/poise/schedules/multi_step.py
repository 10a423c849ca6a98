"""A learning rate that drops at milestones."""

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from poise.errors import UserError


def multi_step(
    progress: float,
    milestones: list[Annotated[float, Gt(0), Le(1)]] | None = None,
    gamma: Annotated[float, Gt(0)] = 0.1,
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.0,
) -> float:
    """Factor on the learning rate: a linear rise over `warmup`, then `gamma` to the number of milestones reached.

    Args:
        progress: share of the run done, in [0, 1].
        milestones: shares of the run, each in (0, 1]; None means 0.5 and 0.75.
        gamma: factor at each milestone, above 0.
        warmup: share of the run, in [0, 1).

    Raises:
        UserError: a milestone outside (0, 1], a gamma of 0 or less or a warmup outside [0, 1).
    """
    if gamma <= 0.0:
        raise UserError(f"schedule.gamma={gamma} must be above 0.")
    if not 0.0 <= warmup < 1.0:
        raise UserError(f"schedule.warmup={warmup} is a share of the run: 0 or more, below 1.")
    reached = 0
    for milestone in [0.5, 0.75] if milestones is None else milestones:
        if not 0.0 < milestone <= 1.0:
            raise UserError(f"schedule.milestones: {milestone} is not a share of the run, above 0 and at most 1.")
        reached += progress >= milestone
    rise = progress / warmup if progress < warmup else 1.0
    return rise * gamma**reached
