"""How far every class's probability is from its frequency, where it says more than a guess."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from poise.metrics.classwise import ClasswiseMetric


class ThresholdedClasswiseCalibrationError(ClasswiseMetric):
    """Mean over classes of the calibration error of each class's probability where that is above 1/C; in 0…1.

    Patel, Beluch, Yang, Pfeiffer, Zhang: Multi-Class Uncertainty Calibration via Mutual Information Maximization-based
    Binning, ICLR 2021, arXiv 2006.13092. As ClasswiseCalibrationError, but for class c only the n_c examples with
    `p_c > 1/C` count, and `e_c = sum_b n_bc / n_c * |mean p_c - share of class c|`; a class without any adds 0. Of
    many classes nearly every probability is close to 0, where the error over all examples is little more than a look
    at the classes' frequencies.

    Args:
        num_classes: number of classes C.
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_classes or num_bins is another number.
    """

    def counted(self, probability: Float[Tensor, "C B"]) -> Bool[Tensor, "C B"]:
        """Which examples count for each class: those that say more of it than a guess."""
        return ~(probability <= 1 / self.num_classes)  # what is no number counts, and is seen

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        error = torch.where(self.counts.sum(1) > 0, self.errors(), 0.0).mean()
        return torch.where(self.examples > 0, error, float("nan"))
