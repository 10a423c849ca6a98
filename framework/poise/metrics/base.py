"""What the metrics on logits and labels have in common."""

import inspect
import zlib
from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric

from poise.blocks import block_size
from poise.errors import UserError
from poise.examples import refuse
from poise.metrics.given import NO_PROBABILITIES, as_examples, impossible, outside
from poise.own_dtype import Move, in_own_dtype

_ROOM = 2**16  # logits that are held in float64 at a time


class LogitsMetric(Metric):
    """A metric whose states are sums over examples, in float64, or counts in int64, added up over ranks.

    Where sums do not tell enough, a state is a value for each example, gathered from the ranks. Updates and merges
    in any order give the same number up to rounding. Without any example it is nan. Casting it, or a module that holds
    it, moves it and leaves its sums in float64.

    A class that derives from it says what `add` does with examples, and by `result` what its states come to.
    """

    is_differentiable = False
    full_state_update = False
    num_classes: int | None = None
    """Classes that logits have to have; None where any number will do."""

    refused: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.compute_with_cache = False  # `merge_state` leaves the cache as it was
        self._dtype = torch.float64  # of what a rank without examples adds to gathered values
        self.add_count("refused", 2)
        # a MetricCollection takes metrics whose states have the same names and values for one and the same
        self.add_state(self._own, torch.zeros((), dtype=torch.int64), dist_reduce_fx="max")

    @property
    def update_called(self) -> bool:
        """True: an empty metric is nan, so there is nothing for torchmetrics to warn of."""
        return True

    def update(self, logits: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """Look at examples and add them.

        Nothing waits for an accelerator: what only values can tell is counted there, and told by `compute`.

        Args:
            logits: floats [B, C], never probabilities; -inf for a class that is masked.
            labels: integers of any type, or truth values, [B], in 0…C-1.

        Raises:
            UserError: something else than tensors, other shapes, types or devices, another number of classes than the
                metric's, labels outside 0…C-1, or logits that make no probabilities.
        """
        logits, labels = as_examples(logits, labels)
        if logits.device.type != self.device.type:
            raise UserError(
                f"The metric is on {self.device} and its logits on {logits.device}: metric.to({str(logits.device)!r})."
            )
        classes = logits.shape[1]
        if self.num_classes not in (None, classes):
            raise UserError(f"Logits of {classes} classes, for num_classes={self.num_classes}.")
        strange, without = outside(labels, classes), impossible(logits)
        if self.device.type == "cpu":
            refuse(strange, "the update", f"has a label outside 0…{classes - 1}")
            refuse(without, "the update", f"has {NO_PROBABILITIES}")
        self.refused += torch.stack([strange, without]).sum(1)
        getattr(self, self._own).fill_(self._settings)
        self.add(logits, labels.clamp(0, classes - 1))

    @abstractmethod
    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add examples that were looked at where they entered, logits [B, C] and int64 labels [B] in 0…C-1.

        Where logits make no probabilities whatever tells of probabilities becomes nan: so a model that has diverged is
        measured without an error.
        """

    def compute(self) -> Float[Tensor, "..."]:
        """The metric over all examples so far, of all ranks.

        Raises:
            UserError: an accelerator was given what `update` refuses.
        """
        self.check_seen()
        return self.result()

    @abstractmethod
    def result(self) -> Float[Tensor, "..."]:
        """What the states come to, as they are."""

    def check_seen(self) -> None:
        """Raises UserError where `update` has counted examples that it refuses."""
        strange, without = self.refused.tolist()
        if strange or without:
            raise UserError(
                f"Of the examples of this metric {strange} have a label outside 0…C-1 and {without} have "
                f"{NO_PROBABILITIES}. After metric.reset() it begins anew."
            )

    @property
    def _own(self) -> str:
        """The name of a state that no other class has."""
        return f"settings_of_{type(self).__name__}"

    @cached_property
    def _settings(self) -> int:
        """A number for what its constructor was given, which objects with other settings hardly have."""
        given = {name: getattr(self, name, None) for name in inspect.signature(type(self)).parameters}
        return zlib.crc32(repr(given).encode())

    def _apply(self, fn: Move, *further: Any, **named: Any) -> Module:
        moved = super()._apply(in_own_dtype(fn), *further, **named)
        self._dtype = torch.float64
        return moved

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


def top_confidence(logits: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """The largest probability of each example, in float64; a few rows at a time, in memory that doesn't grow."""
    rows = max(1, block_size(logits.device, _ROOM) // max(1, logits.shape[1]))
    confidence = logits.new_empty(len(logits), dtype=torch.float64)
    for found, part in zip(confidence.split(rows), logits.split(rows), strict=True):
        found.copy_(part.double().softmax(-1).amax(-1))  # parts that are kept would each leave a hole in the heap
    return confidence
