"""How far confidence is from accuracy, in bins that hold equally many examples."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.metrics.base import check_shapes
from poise.metrics.bins import BinnedMetric, Bins


class EqualMassCalibrationError(BinnedMetric):
    """Expected calibration error of the predicted class, with bins of equally many examples; in 0…1.

    Also called adaptive calibration error of the top label. Nguyen, O'Connor: Posterior Calibration and Exploratory
    Analysis for Natural Language Processing Models, EMNLP 2015, arXiv 1508.05154. Of N examples in order of
    confidence the one at position i is in bin `floor(i * B / N)` of B; the error is that of CalibrationError over
    these bins. Where examples of equal confidence fall into two bins, each counts with the
    share of them that is predicted right: which of them is sorted first is chance, and their order is not to
    change the error. It never exceeds the mean of the error over the orders of such examples.

    The confidence and correctness of every example are kept, 16 bytes each, and gathered from the ranks.

    Args:
        num_bins: number of bins, >= 1; with fewer examples each has a bin of its own.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is smaller.
    """

    confidence: list[Tensor] | Tensor
    correct: list[Tensor] | Tensor

    def __init__(self, num_bins: int = 15, **options: Any) -> None:
        super().__init__(num_bins, **options)
        self.add_values("confidence")
        self.add_values("correct")

    def update(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add examples: logits (never probabilities) and labels in 0…C-1."""
        check_shapes(logits, labels)
        self.append("confidence", logits.double().softmax(-1).amax(-1))
        self.append("correct", (logits.argmax(-1) == labels).double())

    def compute(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.binned().error

    def binned(self) -> Bins:
        """The bins of the states as they are, from the least confident to the most."""
        confidence, correct = _sorted(self.values("confidence"), self.values("correct"))
        size = len(confidence)
        member = torch.arange(size, device=confidence.device) * self.num_bins // max(size, 1)
        sums = confidence.new_zeros(2, self.num_bins).index_add(1, member, torch.stack([confidence, correct]))
        return Bins.of_sums(torch.bincount(member, minlength=self.num_bins), *sums)


def _sorted(
    confidence: Float[Tensor, " N"], correct: Float[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Confidences in order, with the mean correctness of those that are equal."""
    levels, level, counts = confidence.unique(return_inverse=True, return_counts=True)
    share = torch.zeros_like(levels).index_add(0, level, correct) / counts
    return levels.repeat_interleave(counts), share.repeat_interleave(counts)
