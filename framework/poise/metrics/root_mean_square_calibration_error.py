"""How far confidence is from accuracy, where large gaps count for more."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.equal_width import EqualWidthMetric


class RootMeanSquareCalibrationError(EqualWidthMetric):
    """L2 calibration error of the predicted class, with bins of equal width; in 0…1.

    `sqrt(sum_b n_b / N * (confidence_b - accuracy_b)²)` with the bins of CalibrationError; between that error and
    MaximumCalibrationError. Kumar, Liang, Ma: Verified Uncertainty Calibration, NeurIPS 2019, arXiv 1909.10155, where
    it is called the plug-in estimate.

    Args:
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.binned().squared_error.sqrt()
