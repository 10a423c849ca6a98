"""How far every class's probability is from its frequency, summed over classes."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.classwise import ClasswiseMetric


class TotalClasswiseCalibrationError(ClasswiseMetric):
    """Sum over classes of the calibration error of each class's probability, with bins of equal width; in 0…2.

    C times ClasswiseCalibrationError, and called the same in some published tables, such as those of Rahimi, Shaban,
    Cheng, Hartley, Boots: Intra Order-preserving Functions for Calibration of Multi-Class Neural Networks, NeurIPS
    2020, arXiv 2003.06820. Their code has 14 bins, [b/14, (b+1)/14), and one for probabilities of 1 alone; here are
    the bins of CalibrationError.

    Args:
        num_classes: number of classes C.
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_classes or num_bins is another number.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.errors().sum()
