"""What the metrics on logits and labels have in common."""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torchmetrics import Metric

from poise.errors import UserError

_ROOM = 2**16  # logits that are held in float64 at a time: they stay in the processor's cache


class LogitsMetric(Metric):
    """A metric whose states are sums over examples, in float64, or counts in int64, added up over ranks.

    Where sums do not tell enough, a state is a value for each example, gathered from the ranks. Updates and merges
    in any order give the same number up to rounding. Without any example it is nan.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.compute_with_cache = False  # `merge_state` leaves the cache as it was
        self.set_dtype(torch.float64)  # of what a rank without examples adds to gathered values

    @property
    def update_called(self) -> bool:
        """True: an empty metric is nan, so there is nothing for torchmetrics to warn of."""
        return True

    def add_sum(self, name: str, *shape: int) -> None:
        """A state of float64 zeros."""
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def add_count(self, name: str, *shape: int) -> None:
        """A state of int64 zeros."""
        self.add_state(name, torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def add_values(self, name: str) -> None:
        """A state of one float64 value for each example: `append` adds to it, `values` gives it."""
        self.add_state(name, [], dist_reduce_fx="cat")

    def append(self, name: str, values: Float[Tensor, " B"]) -> None:
        """Add values to a state of values."""
        getattr(self, name).append(values)

    def values(self, name: str) -> Float[Tensor, " N"]:
        """All values of a state so far; torchmetrics has one tensor of it once ranks have met, else a list."""
        state = getattr(self, name)
        parts = [state] if isinstance(state, Tensor) else state
        return torch.cat([torch.zeros(0, dtype=torch.float64, device=self.device), *parts])


def check_shapes(logits: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Raises UserError unless logits are float [B, C] and labels integer [B]."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise UserError(
            f"A metric takes logits [B, C] and labels [B], not {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    if not logits.is_floating_point() or labels.is_floating_point():
        raise UserError(f"A metric takes float logits and integer labels, not {logits.dtype} and {labels.dtype}.")


def top_confidence(logits: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """The largest probability of each example, in float64; a few rows at a time, in memory that doesn't grow."""
    rows = max(1, _ROOM // max(1, logits.shape[1]))
    confidence = logits.new_empty(len(logits), dtype=torch.float64)
    for found, part in zip(confidence.split(rows), logits.split(rows), strict=True):
        found.copy_(part.double().softmax(-1).amax(-1))  # parts that are kept would each leave a hole in the heap
    return confidence
