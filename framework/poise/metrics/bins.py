"""Confidences in bins of equal width."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.errors import UserError
from poise.metrics.base import LogitsMetric, check_shapes


@dataclass(frozen=True)
class Bins:
    """What bins hold.

    Args:
        counts: examples in each bin.
        confidence: their mean confidence, in 0…1; nan where there are none.
        accuracy: the share of them that is predicted right; nan where there are none.
    """

    counts: Int[Tensor, " B"]
    confidence: Float[Tensor, " B"]
    accuracy: Float[Tensor, " B"]

    @property
    def gaps(self) -> Float[Tensor, " B"]:
        """How far confidence is from accuracy in each bin; nan where there are no examples."""
        return (self.confidence - self.accuracy).abs()


class BinnedMetric(LogitsMetric):
    """A metric on the predicted class's confidence and correctness, added up in bins of equal width.

    Bin b of B holds the confidences in (b/B, (b+1)/B], the first one also 0. The prediction is the lowest class
    among those with the largest logit.

    Args:
        num_bins: number of bins, >= 1.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is smaller.
    """

    higher_is_better = False
    counts: Tensor
    confidence: Tensor
    correct: Tensor

    def __init__(self, num_bins: int = 15, **options: Any) -> None:
        super().__init__(**options)
        check_num_bins(num_bins)
        self.num_bins = num_bins
        self.add_count("counts", num_bins)
        self.add_sum("confidence", num_bins)
        self.add_count("correct", num_bins)

    def update(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add examples: logits (never probabilities) and labels in 0…C-1."""
        check_shapes(logits, labels)
        confidence = logits.double().softmax(-1).amax(-1)
        member = one_hot(bin_of(confidence, self.num_bins), self.num_bins)
        self.counts += member.sum(0)
        self.confidence += confidence @ member.double()
        self.correct += member[logits.argmax(-1) == labels].sum(0)

    @property
    def bins(self) -> Bins:
        """The bins of all examples so far, over all ranks as in `compute`."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute):
            return self._bins()

    def _bins(self) -> Bins:
        """The bins of the states as they are."""
        return Bins(self.counts.clone(), self.confidence / self.counts, self.correct.double() / self.counts)


def bin_of(values: Float[Tensor, "..."], num_bins: int) -> Int[Tensor, "..."]:
    """The bin in 0…num_bins-1 of each value in 0…1. A value on an edge k/num_bins belongs to the bin below."""
    edges = torch.arange(1, num_bins, dtype=torch.float64, device=values.device) / num_bins
    return torch.bucketize(values, edges)


def check_num_bins(num_bins: int) -> None:
    """Raises UserError unless there is a bin."""
    if num_bins < 1:
        raise UserError(f"num_bins={num_bins} is not a number >= 1.")
