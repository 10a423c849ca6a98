"""A learning rate that drops at milestones."""

from typing import Annotated

from annotated_types import Gt, Le

from poise.errors import UserError


def step(
    progress: float,
    milestones: list[Annotated[float, Gt(0), Le(1)]] | None = None,
    gamma: Annotated[float, Gt(0)] = 0.1,
) -> float:
    """Factor on the learning rate: `gamma` to the number of milestones reached.

    Args:
        progress: share of the run done, in [0, 1].
        milestones: shares of the run, each in (0, 1]; None means 0.5 and 0.75.
        gamma: factor at each milestone, above 0.

    Raises:
        UserError: a milestone outside (0, 1] or a gamma of 0 or less.
    """
    if gamma <= 0.0:
        raise UserError(f"schedule.gamma={gamma} must be above 0.")
    reached = 0
    for milestone in [0.5, 0.75] if milestones is None else milestones:
        if not 0.0 < milestone <= 1.0:
            raise UserError(f"schedule.milestones: {milestone} is not a share of the run, above 0 and at most 1.")
        reached += progress >= milestone
    return gamma**reached
