"""Bounds of numbers, as their types say them: `Annotated[float, Ge(0)]`, in the words of annotated_types."""

import operator
import typing
from collections.abc import Callable
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

Bound = Ge | Gt | Le | Lt

BOUNDS: dict[str, type[Any]] = {"Ge": Ge, "Gt": Gt, "Le": Le, "Lt": Lt}
_FIELDS: dict[type[Any], tuple[str, str, Callable[[Any, Any], bool]]] = {
    Ge: ("ge", "{:g} or more", operator.ge),
    Gt: ("gt", "above {:g}", operator.gt),
    Le: ("le", "at most {:g}", operator.le),
    Lt: ("lt", "below {:g}", operator.lt),
}


def unbound(hint: Any) -> tuple[Any, tuple[Bound, ...]]:
    """A type without its bounds, and those."""
    if typing.get_origin(hint) is not Annotated:
        return hint, ()
    inner, *marks = typing.get_args(hint)
    return inner, tuple(mark for mark in marks if type(mark) in _FIELDS)


def holds(value: Any, bounds: tuple[Bound, ...]) -> bool:
    """Whether a number keeps all of its bounds."""
    return all(_FIELDS[type(bound)][2](value, _limit(bound)) for bound in bounds)


def in_words(bounds: tuple[Bound, ...]) -> str:
    """The bounds as a message says them: `above 0 and at most 1`."""
    return " and ".join(_FIELDS[type(bound)][1].format(_limit(bound)) for bound in bounds)


def _limit(bound: Bound) -> Any:
    return getattr(bound, _FIELDS[type(bound)][0])
