"""How far confidence is from accuracy, in the mean."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.equal_width import EqualWidthMetric


class CalibrationError(EqualWidthMetric):
    """Expected calibration error: the mean gap of confidence and accuracy, in bins of equal width; in 0…1.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599, equation
    3: `sum_b n_b / N * |confidence_b - accuracy_b|`. Bin b of B holds the confidences in (b/B, (b+1)/B], the
    first one also 0. The prediction is the lowest class among those with the largest logit.

    Args:
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.binned().error
