"""How far confidence is from accuracy, where every bin counts alike."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.equal_width import EqualWidthMetric


class AverageCalibrationError(EqualWidthMetric):
    """Average calibration error: the mean gap of confidence and accuracy over bins that hold examples; in 0…1.

    Neumann, Zisserman, Vedaldi: Relaxed Softmax: Efficient Confidence Auto-Calibration for Safe Pedestrian Detection,
    2018. The bins are those of CalibrationError. One with a single example weighs as much as one with thousands, so
    compare nothing by this error alone. Adaptive calibration error, which is also called ACE, is another.

    Args:
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.binned().mean_gap
