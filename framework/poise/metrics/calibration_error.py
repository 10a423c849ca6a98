"""How far confidence is from accuracy."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.errors import UserError
from poise.metrics.base import LogitsMetric, check_shapes


class CalibrationError(LogitsMetric):
    """Expected calibration error of the predicted class, with bins of equal width; in 0…1.

    Naeini, Cooper, Hauskrecht: Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599, equation
    3: `sum_b n_b / N * |confidence_b - accuracy_b|`. Bin b of B holds the confidences in (b/B, (b+1)/B], the
    first one also 0. The prediction is the lowest class among those with the largest logit.

    Args:
        num_bins: number of bins, >= 1.
        options: of torchmetrics.Metric.
    """

    higher_is_better = False
    counts: Tensor
    confidence: Tensor
    correct: Tensor

    def __init__(self, num_bins: int = 15, **options: Any) -> None:
        super().__init__(**options)
        if num_bins < 1:
            raise UserError(f"num_bins={num_bins} is not a number >= 1.")
        self.num_bins = num_bins
        self.add_count("counts", num_bins)
        self.add_sum("confidence", num_bins)
        self.add_count("correct", num_bins)

    def update(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add examples: logits (never probabilities) and labels in 0…C-1."""
        check_shapes(logits, labels)
        confidence = logits.double().softmax(-1).amax(-1)
        edges = torch.arange(1, self.num_bins, dtype=torch.float64, device=confidence.device) / self.num_bins
        member = one_hot(torch.bucketize(confidence, edges), self.num_bins)
        self.counts += member.sum(0)
        self.confidence += confidence @ member.double()
        self.correct += member[logits.argmax(-1) == labels].sum(0)

    def compute(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return (self.confidence - self.correct).abs().sum() / self.counts.sum()
