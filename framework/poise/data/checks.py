"""What data must be, checked once, over whole arrays."""

from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from poise.data.stored import Inputs, Stored
from poise.errors import UserError

LOOKED_AT = 64  # rows of inputs that are stored


def check_tensor(values: Any, name: str) -> Shaped[Tensor, "..."]:
    """A tensor, as it is.

    Raises:
        UserError: something else.
    """
    if not isinstance(values, Tensor):
        raise UserError(
            f"{name} is of type {type(values).__name__}: give a torch tensor, as torch.from_numpy({name}) makes one of "
            "an array."
        )
    return values


def check_integers(values: Shaped[Tensor, "..."], name: str, rows: int) -> Int[Tensor, " N"]:
    """One integer per row, as int64 [N].

    Raises:
        UserError: other types, or another number of rows than the inputs.
    """
    if values.is_floating_point() or values.is_complex():
        given = str(values.dtype).removeprefix("torch.")
        raise UserError(f"{name} holds {given}: give integers, one per row of x.")
    if values.shape != (rows,):
        raise UserError(f"x has {rows} rows, {name} has shape {tuple(values.shape)}: give one integer per row.")
    return values.to(torch.int64)


def check_inputs(split: str, x: Inputs, valid_range: tuple[float, float] | None) -> None:
    """Inputs [N, *input] are finite and inside the valid range (uint8 always is).

    Of inputs that are stored the first are looked at; training looks at each batch.

    Raises:
        UserError: names the split and the first row that is not.
    """
    if x.dtype == torch.uint8 or x.shape.numel() == 0:
        return
    if isinstance(x, Stored):
        x = x[:LOOKED_AT]
    low, high = valid_range if valid_range is not None else (-torch.inf, torch.inf)
    smallest, largest = (float(value) for value in torch.aminmax(x))
    # NaN spreads through aminmax and fails every comparison
    if low <= smallest and largest <= high and abs(smallest) != torch.inf and abs(largest) != torch.inf:
        return
    rows = x.flatten(1)
    infinite = ~torch.isfinite(rows).all(1)
    if infinite.any():
        row = _first(infinite)
        raise UserError(f"{split}: x[{row}] holds a value that is not finite (NaN or infinity).")
    row = _first(((rows < low) | (rows > high)).any(1))
    given = f"{float(rows[row].min()):g} to {float(rows[row].max()):g}"
    raise UserError(
        f"{split}: x[{row}] holds values from {given}, outside the "
        f"valid range {low:g} to {high:g}: scale them, or store pictures as uint8."
    )


def check_range_of(split: str, name: str, values: Int[Tensor, " N"], low: int, end: int | None) -> None:
    """Integers [N] from `low` to below `end` (no bound when None).

    Raises:
        UserError: names the split and the first row outside.
    """
    bad = values < low if end is None else (values < low) | (values >= end)
    if bad.any():
        row = _first(bad)
        allowed = f"{low} or more" if end is None else f"{low} to {end - 1}"
        raise UserError(f"{split}: {name}[{row}] is {int(values[row])}, allowed is {allowed}.")


def check_several_classes(split: str, label: Int[Tensor, " N"]) -> None:
    """More than one class occurs.

    Raises:
        UserError: names the split and its only class.
    """
    if int(label.min()) == int(label.max()):
        raise UserError(f"{split}: every label is {int(label[0])}; a classifier needs two classes or more.")


def _first(bad: Tensor) -> int:
    return int(bad.to(torch.uint8).argmax())
