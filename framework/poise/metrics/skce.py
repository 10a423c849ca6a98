"""How far whole distributions are from what occurs, seen through a kernel."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.metrics.base import LogitsMetric
from poise.number_checks import check_counts

_ROOM = 2**20  # kernel values that are held at a time


class KernelCalibrationMetric(LogitsMetric):
    """A metric on the sums of `exp(-|p_i - p_j|) <o_i - p_i, o_j - p_j>` over pairs, with o the labels' one-hot rows.

    Probabilities and labels of all examples are kept, 8 (C + 1) bytes each, and gathered from the ranks. Time grows
    with N² C.

    Args:
        num_classes: number of classes C.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_classes is no whole number >= 1.
    """

    higher_is_better = False
    num_classes: int
    probability: list[Tensor] | Tensor
    label: list[Tensor] | Tensor

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(**options)
        check_counts(type(self).__name__, num_classes=num_classes)
        self.num_classes = num_classes
        self.add_values("probability")
        self.add_values("label")

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        self.append("probability", logits.double().softmax(-1).flatten())
        self.append("label", labels.double())

    def pairs(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""], int]:
        """The sum over all pairs, the part of it where both are one example, and the number of examples."""
        probability = self.values("probability").view(-1, self.num_classes)
        residual = one_hot(self.values("label").long(), self.num_classes) - probability
        size = len(probability)
        total = probability.new_zeros(())
        for rows in torch.arange(size, device=probability.device).split(max(1, _ROOM // max(size, 1))):
            far = torch.cdist(probability[rows], probability, compute_mode="donot_use_mm_for_euclid_dist")
            total = total + ((-far).exp() @ residual * residual[rows]).sum()
        return total, residual.square().sum(), size


class SquaredKernelCalibrationError(KernelCalibrationMetric):
    """Squared kernel calibration error (SKCE) of all classes, unbiased: about 0, or below, where calibrated.

    Widmann, Lindsten, Zachariah: Calibration Tests in Multi-Class Classification: A Unifying Framework, NeurIPS 2019,
    arXiv 1910.11385, their SKCE_uq: `2 / (N (N - 1)) sum_{i < j} exp(-|p_i - p_j|) <o_i - p_i, o_j - p_j>` with the
    Euclidean distance. Average and compare it as it is; published tables may have its absolute value. nan of fewer
    than two examples.

    Args:
        num_classes: number of classes C.
        options: of torchmetrics.Metric.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        total, same, size = self.pairs()
        return (total - same) / torch.tensor(size * (size - 1))


class BiasedSquaredKernelCalibrationError(KernelCalibrationMetric):
    """Squared kernel calibration error of all classes together, never below 0; larger by chance where calibrated.

    Widmann, Lindsten, Zachariah: Calibration Tests in Multi-Class Classification: A Unifying Framework, NeurIPS 2019,
    arXiv 1910.11385, their SKCE_b: `1 / N² sum_ij exp(-|p_i - p_j|) <o_i - p_i, o_j - p_j>` with the Euclidean
    distance.

    Args:
        num_classes: number of classes C.
        options: of torchmetrics.Metric.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        total, _, size = self.pairs()
        return total / torch.tensor(size**2)
