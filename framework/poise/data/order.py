"""Which examples, in which order, an epoch or a stream goes through."""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from poise.data.keys import generator
from poise.errors import UserError


def epoch_order(size: int, seed: int, epoch: int, weights: Shaped[Tensor, " N"] | None = None) -> Int[Tensor, " M"]:
    """The examples of one epoch in the order of training, [M]; keyed by seed and epoch alone.

    Args:
        size: N, examples in the data set.
        seed: of the run.
        epoch: from 0.
        weights: integers are exact copies (0 leaves an example out, M is their sum); floats are the odds of N
            draws with replacement; None takes every example once.

    Raises:
        UserError: weights that are negative, not finite, all zero or of another length.
    """
    keyed = generator(seed, "order", epoch)
    if weights is None:
        return torch.randperm(size, generator=keyed)
    _check_weights(weights, size)
    if weights.is_floating_point():
        cumulative = weights.double().cumsum(0)
        draws = torch.rand(size, dtype=torch.float64, generator=keyed) * cumulative[-1]
        # the last example of positive weight takes what rounding lets fall beyond the end
        last = int(weights.nonzero().max())
        return torch.searchsorted(cumulative, draws, right=True).clamp(max=last)
    rows = torch.arange(size).repeat_interleave(weights.to(torch.int64))
    return rows[torch.randperm(len(rows), generator=keyed)]


def epoch_size(size: int, weights: Shaped[Tensor, " N"] | None = None) -> int:
    """How many examples `epoch_order` gives; the same arguments and errors."""
    if weights is None:
        return size
    _check_weights(weights, size)
    return size if weights.is_floating_point() else int(weights.sum())


def _check_weights(weights: Tensor, size: int) -> None:
    if weights.shape != (size,):
        raise UserError(f"sample weights have shape {tuple(weights.shape)}: give one for each of {size} examples.")
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        row = int((~torch.isfinite(weights) | (weights < 0)).to(torch.uint8).argmax())
        raise UserError(f"the sample weight of example {row} is {weights[row].item()}: give 0 or more, finite.")
    if not bool((weights > 0).any()):
        raise UserError("sample weights are all 0: no example is left to train on.")


class StreamOrder:
    """Endless order of a stream: one permutation after the other, each keyed by (seed, name, pass).

    Args:
        size: examples in the stream.
        seed: of the run.
        name: of the stream.
    """

    def __init__(self, size: int, seed: int, name: str) -> None:
        if size < 1:
            raise UserError(f"the stream {name!r} is empty.")
        self.size, self.seed, self.name = size, seed, name
        self._number = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def rows(self, start: int, count: int) -> Int[Tensor, " B"]:
        """The examples at positions start … start + count - 1 of the endless order."""
        parts, end = [], start + count
        while start < end:
            number, offset = divmod(start, self.size)
            taken = min(end - start, self.size - offset)
            parts.append(self._pass(number)[offset : offset + taken])
            start += taken
        return torch.cat(parts)

    def _pass(self, number: int) -> Tensor:
        if number != self._number:
            keyed = generator(self.seed, "stream", self.name, number)
            self._number, self._permutation = number, torch.randperm(self.size, generator=keyed)
        return self._permutation
