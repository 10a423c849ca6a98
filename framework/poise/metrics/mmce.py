"""How far confidence is from accuracy, seen through a kernel."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from poise.metrics.levels import Levels
from poise.metrics.top_label import SortedMetric
from poise.number_checks import check_above_zero


class MaximumMeanCalibrationError(SortedMetric):
    """Maximum mean calibration error: the gap of confidence and correctness in the norm of a kernel; in 0…1.

    Kumar, Sarawagi, Jain: Trainable Calibration Measures for Neural Networks from Kernel Mean Embeddings, ICML 2018:
    `sqrt(1/N² sum_ij r_i r_j exp(-|confidence_i - confidence_j| / width))` with `r = correct - confidence`. The sum
    over all pairs is had from one sorting and log N passes, to rounding.

    Args:
        width: of the kernel, > 0; 0.4 in the paper.
        options: of torchmetrics.Metric.

    Raises:
        UserError: width is no finite number above 0.
    """

    def __init__(self, width: float = 0.4, **options: Any) -> None:
        super().__init__(**options)
        check_above_zero(type(self).__name__, width=width)
        self.width = width

    def measured(self, levels: Levels) -> Float[Tensor, "..."]:
        """The error of the examples at these levels."""
        below = _decayed_sums(levels.residual, levels.confidence / self.width)
        pairs = (levels.residual * (2 * below - levels.residual)).sum(-1)
        return pairs.clamp(min=0).sqrt() / levels.size


def _decayed_sums(values: Float[Tensor, "... L"], at: Float[Tensor, " L"]) -> Float[Tensor, "... L"]:
    """`sum_{j <= i} values_j exp(at_j - at_i)` for each i, where `at` rises: spans of 1, 2, 4, … are joined."""
    span = 1
    while span < len(at):
        joined = values[..., :-span] * (at[:-span] - at[span:]).exp()
        values = torch.cat([values[..., :span], values[..., span:] + joined], -1)
        span *= 2
    return values
