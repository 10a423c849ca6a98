"""How far to go along a direction of descent: what Newton's methods share."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

SLIGHT = 1e-4  # of the fall that the slope promises, with which a step is content
HALVINGS = 40  # of a step that goes too far

Point = tuple[Tensor, ...]


def descend(
    objective: Callable[..., Float[Tensor, ""]], point: Point, step: Point, fall: Float[Tensor, ""]
) -> Point | None:
    """The point after the longest of a whole step, a half, a quarter … that lowers the objective; None if none does.

    Args:
        objective: of the tensors of a point; NaN where it has no value.
        point: where it starts, some tensors.
        step: what to take from each of them.
        fall: what the slope at `point` promises of a whole step.
    """
    value = objective(*point)
    for halvings in range(HALVINGS):
        length = 0.5**halvings
        further = tuple(tensor - length * part for tensor, part in zip(point, step, strict=True))
        if objective(*further) <= value - SLIGHT * length * fall:
            return further
    return None
