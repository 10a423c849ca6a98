"""What each hook has to give, looked at once, on a few examples, before anything is trained."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.errors import UserError

Look = Callable[[Any, int], bool]


def check_return(member: str, hook: str, given: Any, arguments: tuple[Any, ...]) -> None:
    """Refuse a return that the step would trip over, or silently take for something else.

    Args:
        member: name of the recipe.
        hook: that was called.
        given: what it returned.
        arguments: what it was called with; the batch among them says how many rows there are.

    Raises:
        UserError: names recipe and hook, what came and what has to.
    """
    if hook not in WANTED:
        return
    words, right = WANTED[hook]
    rows = next((len(argument) for argument in arguments if isinstance(argument, Batch)), 0)
    if not right(given, rows):
        raise UserError(f"{member}.{hook} returned {_described(given)}: it has to return {words.format(rows=rows)}")


def _is_tensor(given: Any, *shape: int) -> bool:
    return isinstance(given, Tensor) and tuple(given.shape) == shape


def _is_pair(given: Any, rows: int) -> bool:
    return (
        isinstance(given, tuple)
        and len(given) == 2
        and all(isinstance(one, Tensor) and one.ndim == 2 and len(one) == rows for one in given)
    )


WANTED: Mapping[str, tuple[str, Look]] = {
    "mix": ("a Batch", lambda given, rows: isinstance(given, Batch)),
    "attack": ("a Batch", lambda given, rows: isinstance(given, Batch)),
    "inner": ("a function of inputs", lambda given, rows: callable(given)),
    "transform": ("a tensor of {rows} rows", lambda given, rows: isinstance(given, Tensor) and len(given) == rows),
    "adjust": ("logits and target, each [{rows}, C]", _is_pair),
    "criterion": ("a loss for each example, [{rows}]", lambda given, rows: _is_tensor(given, rows)),
    "objective": (
        "an Outcome with a loss for each example, [{rows}]",
        lambda given, rows: isinstance(given, Outcome) and _is_tensor(given.loss, rows),
    ),
    "weigh": (
        "a weight for each example, [{rows}], or None",
        lambda given, rows: given is None or _is_tensor(given, rows),
    ),
    "penalty": ("a scalar tensor, or None", lambda given, rows: given is None or _is_tensor(given)),
}


def _described(given: Any) -> str:
    if isinstance(given, torch.Tensor):
        return f"a tensor {list(given.shape)}"
    if isinstance(given, Outcome):
        return f"an Outcome with a loss {list(given.loss.shape)}"
    return f"a {type(given).__name__}" if given is not None else "None"
