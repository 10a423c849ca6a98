"""How far every class's probability is from its frequency, in the mean over classes."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.classwise import ClasswiseMetric


class ClasswiseCalibrationError(ClasswiseMetric):
    """Mean over classes of the calibration error of each class's probability, with bins of equal width; in 0…1.

    Called static calibration error by Nixon, Dusenberry, Jerfel, Nguyen, Liu, Zhang, Tran: Measuring Calibration in
    Deep Learning, 2019, arXiv 1904.01685. For class c the examples are binned by p_c as CalibrationError bins
    confidences, and `e_c = sum_b n_bc / N * |mean p_c - share of class c|` over the examples in bin b. The mean of
    e_c is given; some published tables have the sum: TotalClasswiseCalibrationError.

    Args:
        num_classes: number of classes C.
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_classes or num_bins is another number.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.errors().mean()
