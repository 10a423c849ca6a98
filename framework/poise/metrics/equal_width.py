"""Confidences in bins of equal width, which can be added up."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.metrics.base import top_confidence
from poise.metrics.bins import BinnedMetric, Bins, bin_of


class EqualWidthMetric(BinnedMetric):
    """A metric on bins of equal width: bin b of B holds the confidences in (b/B, (b+1)/B], the first one also 0.

    Args:
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is another number.
    """

    counts: Tensor
    confidence: Tensor
    correct: Tensor

    def __init__(self, num_bins: int = 15, **options: Any) -> None:
        super().__init__(num_bins, **options)
        self.add_count("counts", num_bins)
        self.add_sum("confidence", num_bins)
        self.add_count("correct", num_bins)

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        confidence = top_confidence(logits)
        place, right = bin_of(confidence, self.num_bins), logits.argmax(-1) == labels
        self.counts = self.counts.index_add(0, place, torch.ones_like(place))
        self.confidence = self.confidence.index_add(0, place, confidence)
        self.correct = self.correct.index_add(0, place, right.long())

    def binned(self) -> Bins:
        """The bins of the states as they are."""
        return Bins.of_sums(self.counts, self.confidence, self.correct)
