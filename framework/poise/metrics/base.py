"""What the metrics on logits and labels have in common."""

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torchmetrics import Metric

from poise.errors import UserError


class LogitsMetric(Metric):
    """A metric whose states are sums over examples: in float64, or counts in int64, added up over ranks.

    Updates and merges in any order give the same number up to rounding. Without any example it is nan.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.compute_with_cache = False  # `merge_state` leaves the cache as it was

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


def check_shapes(logits: Shaped[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
    """Raises UserError unless logits are float [B, C] and labels integer [B]."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise UserError(
            f"A metric takes logits [B, C] and labels [B], not {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    if not logits.is_floating_point() or labels.is_floating_point():
        raise UserError(f"A metric takes float logits and integer labels, not {logits.dtype} and {labels.dtype}.")
