"""Numbers that a caller gives, looked at before anything is worked out from them."""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import wraps
from numbers import Integral, Real
from typing import Any, TypeGuard

from poise.errors import UserError
from poise.registry.bounds import holds, in_words, unbound


def check_counts(of: str, most: int | None = None, **counts: object) -> None:
    """Raises UserError unless all are whole numbers from 1 to the most there may be.

    Args:
        of: whose they are, as in "steps=0 of PGD".
        most: None where there is no limit.
        counts: by name.
    """
    allowed = ">= 1" if most is None else f"in 1…{most:,}"
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, Integral) or not 1 <= int(count) <= (most or int(count)):
            raise UserError(f"{name}={count!r} of {of} is not a whole number {allowed}.")


def check_shares(of: str, **shares: object) -> None:
    """Raises UserError unless all are numbers above 0 and below 1."""
    for name, share in shares.items():
        if not is_number(share) or not 0 < share < 1:
            raise UserError(f"{name}={share!r} of {of} is not a number between 0 and 1.")


def check_above_zero(of: str, **numbers: object) -> None:
    """Raises UserError unless all are finite numbers above 0."""
    for name, number in numbers.items():
        if not is_number(number) or not 0 < number < math.inf:
            raise UserError(f"{name}={number!r} of {of} is not a number > 0.")


def within_bounds(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that raises UserError for a number beyond its type's bounds, as in `Annotated[float, Ge(0)]`."""
    signature = inspect.signature(init)
    hints = {name: parameter.annotation for name, parameter in signature.parameters.items()}

    @wraps(init)
    def checked(made: object, *given: Any, **named: Any) -> None:
        _check_bounds(type(made).__name__, hints, signature.bind_partial(made, *given, **named).arguments)
        init(made, *given, **named)

    return checked


def _check_bounds(of: str, hints: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        kind, bounds = unbound(hints.get(name))
        plain = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        if bounds and not (plain and holds(value, bounds)):
            whole = "a whole number" if kind is int else "a number"
            raise UserError(f"{name}={value!r} of {of} has to be {whole}, {in_words(bounds)}.")


def is_number(given: object) -> TypeGuard[float]:
    """Whether it is a number of Python's or NumPy's, NaN included; a truth value or a tensor is none."""
    return isinstance(given, Real) and not isinstance(given, bool)
