"""How far confidence is from accuracy, in bins that hold equally many examples."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from poise.metrics.bins import BinnedMetric, Bins
from poise.metrics.levels import Levels
from poise.metrics.top_label import TopLabelMetric


class EqualMassCalibrationError(TopLabelMetric, BinnedMetric):
    """Expected calibration error of the predicted class, with bins of equally many examples; in 0…1.

    Also called adaptive calibration error of the top label. Nguyen, O'Connor: Posterior Calibration and Exploratory
    Analysis for Natural Language Processing Models, EMNLP 2015, arXiv 1508.05154. Of N examples in order of
    confidence the one at position i is in bin `floor(i * B / N)` of B; the error is that of CalibrationError over
    these bins. Where examples of equal confidence fall into two bins, each counts with the share of them that is
    predicted right: which of them is sorted first is chance, and their order is not to change the error. It never
    exceeds the mean of the error over the orders of such examples. `bins.debiased_squared_error` is the error that
    Kumar, Liang and Ma (see DebiasedSquaredCalibrationError) take with bins like these.

    Args:
        num_bins: number of bins, in 1…10,000; with fewer examples each has a bin of its own.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is another number.
    """

    def __init__(self, num_bins: int = 15, **options: Any) -> None:
        super().__init__(num_bins=num_bins, **options)

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.binned().error

    def binned(self) -> Bins:
        """The bins of the states as they are, from the least confident to the most."""
        return equal_mass_bins(Levels.of(self.values("confidence"), self.values("correct")), self.num_bins)


def equal_mass_bins(levels: Levels, num_bins: int) -> Bins:
    """Bins that hold equally many of the examples at these levels, from the least confident to the most."""
    ends = levels.counts.cumsum(-1)
    part = torch.arange(num_bins + 1, device=ends.device)
    edges = (part * levels.size[..., None] / num_bins).ceil()
    sums = [_sums_before(edges, ends, values) for values in (levels.counts * levels.confidence, levels.correct)]
    return Bins.of_sums(edges.diff().long(), *(each.diff() for each in sums))


def _sums_before(
    edges: Float[Tensor, "... E"], ends: Float[Tensor, "... L"], sums: Float[Tensor, "... L"]
) -> Float[Tensor, "... E"]:
    """The sum over the examples before each edge, where those of one level share the sum of it alike."""
    zero = ends.new_zeros(*ends.shape[:-1], 1)
    counts, before = torch.cat([zero, ends], -1), torch.cat([zero, sums.cumsum(-1)], -1)
    level = torch.searchsorted(ends, edges)
    following = (level + 1).clamp(max=ends.shape[-1])
    low, high = counts.gather(-1, level), counts.gather(-1, following)
    share = torch.where(edges > low, (edges - low) / (high - low), 0.0)
    return before.gather(-1, level) * (1 - share) + before.gather(-1, following) * share
