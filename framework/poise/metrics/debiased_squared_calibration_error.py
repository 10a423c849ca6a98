"""How far confidence is from accuracy, without what chance adds."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.equal_width import EqualWidthMetric


class DebiasedSquaredCalibrationError(EqualWidthMetric):
    """Squared calibration error of the predicted class, nearly unbiased; at most 1, and below 0 by chance.

    Kumar, Liang, Ma: Verified Uncertainty Calibration, NeurIPS 2019, arXiv 1909.10155:
    `sum_b n_b / N * ((confidence_b - accuracy_b)² - accuracy_b (1 - accuracy_b) / (n_b - 1))` over bins of equal
    width; a bin of one example adds nothing. Average and compare these values, and take the root of what is above 0
    at the very end, as the paper's L2 error does: a root, or a cut at 0, of every value brings the bias back. The
    paper's bins hold equally many examples: `EqualMassCalibrationError.bins.debiased_squared_error` is that.

    Args:
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.binned().debiased_squared_error
