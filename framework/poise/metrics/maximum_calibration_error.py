"""How far confidence is from accuracy, at the worst."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from poise.metrics.equal_width import EqualWidthMetric
from poise.number_checks import check_counts

MIN_COUNT = 10


class MaximumCalibrationError(EqualWidthMetric):
    """The largest gap of confidence and accuracy over bins of 10 examples or more, so it may be below ECE; in 0…1.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015:
    `max_b |confidence_b - accuracy_b|`, with the bins of CalibrationError. A bin of few examples has a large gap
    by chance (a lone example predicted right with confidence 0.2 has 0.8), so bins of fewer than `min_count` are
    left out, where the paper takes all: that is min_count=1.

    Args:
        num_bins: number of bins, in 1…10,000.
        min_count: examples that a bin has to hold to count, >= 1. Where none holds so many the error is nan.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins or min_count is another number.
    """

    def __init__(self, num_bins: int = 15, min_count: int = MIN_COUNT, **options: Any) -> None:
        super().__init__(num_bins, **options)
        check_counts(type(self).__name__, min_count=min_count)
        self.min_count = min_count

    def result(self) -> Float[Tensor, ""]:
        """The largest gap over all examples so far."""
        return self.binned().largest_gap(self.min_count)
