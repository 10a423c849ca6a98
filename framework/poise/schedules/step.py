"""A learning rate that drops again and again."""

from typing import Annotated

from annotated_types import Gt, Le

from poise.errors import UserError

ROUNDING = 1e-9  # 0.3 / 0.1 is a little less than 3


def step(progress: float, every: Annotated[float, Gt(0), Le(1)] = 1 / 3, gamma: Annotated[float, Gt(0)] = 0.1) -> float:
    """Factor on the learning rate: `gamma` to the number of times that `every` has passed.

    Args:
        progress: share of the run done, in [0, 1].
        every: share of the run between two drops, in (0, 1]: 30/90 is every 30th of 90 epochs.
        gamma: factor at each drop, above 0.

    Raises:
        UserError: a share outside (0, 1] or a gamma of 0 or less.
    """
    if not 0.0 < every <= 1.0:
        raise UserError(f"schedule.every={every} is a share of the run: above 0, at most 1.")
    if gamma <= 0.0:
        raise UserError(f"schedule.gamma={gamma} must be above 0.")
    return gamma ** int(progress / every + ROUNDING)
