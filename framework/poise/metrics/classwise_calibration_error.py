"""How far every class's probability is from its frequency."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.errors import UserError
from poise.metrics.base import LogitsMetric, check_shapes
from poise.metrics.bins import bin_of, check_num_bins


class ClasswiseCalibrationError(LogitsMetric):
    """Mean over classes of the calibration error of each class's probability, with bins of equal width; in 0…1.

    Called static calibration error by Nixon, Dusenberry, Jerfel, Nguyen, Liu, Zhang, Tran: Measuring Calibration in
    Deep Learning, 2019, arXiv 1904.01685. For class c the examples are binned by p_c as CalibrationError bins
    confidences, and `e_c = sum_b n_bc / N * |mean p_c - share of class c|` over the examples in bin b. The mean of
    e_c is given; some published tables have the sum, which is C times as large.

    Args:
        num_classes: number of classes C.
        num_bins: number of bins, >= 1.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is smaller.
    """

    higher_is_better = False
    counts: Tensor
    probability: Tensor
    members: Tensor

    def __init__(self, num_classes: int, num_bins: int = 15, **options: Any) -> None:
        super().__init__(**options)
        check_num_bins(num_bins)
        self.num_classes = num_classes
        self.num_bins = num_bins
        self.add_count("counts", num_classes, num_bins)
        self.add_sum("probability", num_classes, num_bins)
        self.add_count("members", num_classes, num_bins)

    def update(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add examples: logits (never probabilities) and labels in 0…C-1."""
        check_shapes(logits, labels)
        if logits.shape[1] != self.num_classes:
            raise UserError(f"Logits of {logits.shape[1]} classes, for num_classes={self.num_classes}.")
        probability = logits.double().softmax(-1).T.contiguous()
        place = bin_of(probability, self.num_bins)
        self.counts = self.counts.scatter_add(1, place, place.new_ones(place.shape))
        self.probability = self.probability.scatter_add(1, place, probability)
        self.members = self.members.scatter_add(1, place, one_hot(labels, self.num_classes).T)

    def compute(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return (self.probability - self.members).abs().sum() / self.counts.sum()
