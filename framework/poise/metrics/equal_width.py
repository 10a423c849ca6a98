"""Confidences in bins of equal width, which can be added up."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.metrics.base import top_confidence
from poise.metrics.bins import BinnedMetric, Bins, bin_of


class EqualWidthMetric(BinnedMetric):
    """A metric on bins of equal width: bin b of B holds the confidences in (b/B, (b+1)/B], the first one also 0.

    Args:
        num_bins: number of bins, >= 1.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is smaller.
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
        member = one_hot(bin_of(confidence, self.num_bins), self.num_bins)
        self.counts += member.sum(0)
        self.confidence += confidence @ member.double()
        self.correct += member[logits.argmax(-1) == labels].sum(0)

    def binned(self) -> Bins:
        """The bins of the states as they are."""
        return Bins.of_sums(self.counts, self.confidence, self.correct)
