"""Inputs that do not lie in memory: of which rows are read when they are asked for."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

CHUNK = 1024  # rows of a tensor that are changed at once

Change = Callable[[Shaped[Tensor, "B ..."], Int[Tensor, " B"]], Shaped[Tensor, "B ..."]]


class Stored:
    """Inputs [N, *input] that are read by rows; base of a file of pictures, and of what is seen of one.

    It has of a tensor what data need: a shape, a type, rows at given positions. Nobody writes to it. Reading is safe
    from several threads.

    Args:
        shape: [N, *input].
        dtype: uint8 (0…255 stands for 0…1) or floating point.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.shape, self.dtype = torch.Size(shape), dtype

    @property
    def ndim(self) -> int:
        """Of the inputs and their rows."""
        return len(self.shape)

    def is_floating_point(self) -> bool:
        """As a tensor says it."""
        return self.dtype.is_floating_point

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: slice | Shaped[Tensor, " M"]) -> Shaped[Tensor, "B ..."]:
        """The rows of a slice, at positions or where a mask is true, read."""
        return self.read(positions_of(chosen, len(self)))

    def read(self, positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
        """Inputs [B, *input] at positions [B] from 0 to N-1, in memory of their own."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its rows are read: define `read`.")


Inputs: TypeAlias = Tensor | Stored


def rows(x: Inputs, chosen: Shaped[Tensor, " M"]) -> Inputs:
    """The inputs at these positions, or where a mask is true: of a tensor a copy, of what is stored a view."""
    if isinstance(x, Stored):
        return _Rows(x, positions_of(chosen, len(x)))
    return x[chosen]


def taken(x: Inputs, positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
    """The inputs [B, *input] at positions [B] from 0 to N-1, in memory of their own."""
    if isinstance(x, Stored):
        return x.read(positions)
    return x.index_select(0, positions.to(x.device))  # an eighth of the time that x[positions] takes


def changed(x: Inputs, change: Change) -> Inputs:
    """Every input changed: a tensor at once, what is stored whenever it is read.

    Args:
        x: inputs [N, *input].
        change: of some inputs [B, *input] and their positions in `x` [B]; it depends on each input and its position
            alone, for nobody knows when it is asked and with which others. It may give another shape and type, the
            same for every row, and leaves what it is given as it is.
    """
    if isinstance(x, Stored):
        return _Changed(x, change)
    return torch.cat([change(x[part], part) for part in torch.arange(len(x)).split(CHUNK)])


def held(x: Inputs) -> Stored:
    """The same inputs as ones that are read by rows: what is changed of them is changed at reading, in no memory."""
    return x if isinstance(x, Stored) else _Held(x)


def positions_of(chosen: slice | Shaped[Tensor, " M"], size: int) -> Int[Tensor, " B"]:
    """Positions [B] from 0 to size-1 that a slice, a mask [size] or positions, negative from the end, stand for.

    Raises:
        IndexError: a position outside, a mask of another length.
    """
    if isinstance(chosen, slice) or chosen.dtype == torch.bool:
        return torch.arange(size)[chosen]
    chosen = chosen.to(torch.int64)
    if len(chosen) and not -size <= int(chosen.min()) <= int(chosen.max()) < size:
        raise IndexError(f"positions from {int(chosen.min())} to {int(chosen.max())} of {size} rows")
    return torch.where(chosen < 0, chosen + size, chosen)


class _Rows(Stored):
    """Some rows of stored inputs, in some order."""

    def __init__(self, whole: Stored, chosen: Int[Tensor, " M"]) -> None:
        super().__init__((len(chosen), *whole.shape[1:]), whole.dtype)
        self.whole, self.chosen = whole, chosen

    def read(self, positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
        return self.whole.read(self.chosen[positions])


class _Held(Stored):
    """A tensor, read by rows."""

    def __init__(self, x: Shaped[Tensor, "N ..."]) -> None:
        super().__init__(x.shape, x.dtype)
        self.x = x

    def read(self, positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
        return self.x[positions]


class _Changed(Stored):
    """Stored inputs as a function leaves them."""

    def __init__(self, whole: Stored, change: Change) -> None:
        first = whole[:1]
        like = change(first, torch.arange(len(first)))
        super().__init__((len(whole), *like.shape[1:]), like.dtype)
        self.whole, self.change = whole, change

    def read(self, positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
        return self.change(self.whole.read(positions), positions)
