"""Every class's probability in bins of equal width, which can be added up."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.metrics.base import LogitsMetric
from poise.metrics.bins import MOST_BINS, bin_of
from poise.number_checks import check_counts


class ClasswiseMetric(LogitsMetric):
    """A metric on each class's probability, binned as CalibrationError bins confidences.

    For class c, `e_c = sum_b n_bc / n_c * |mean p_c - share of class c|` over the examples in bin b.

    Args:
        num_classes: number of classes C.
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_classes or num_bins is another number.
    """

    higher_is_better: bool | None = False
    num_classes: int
    examples: Tensor
    counts: Tensor
    probability: Tensor
    members: Tensor

    def __init__(self, num_classes: int, num_bins: int = 15, **options: Any) -> None:
        super().__init__(**options)
        check_counts(type(self).__name__, num_classes=num_classes)
        check_counts(type(self).__name__, MOST_BINS, num_bins=num_bins)
        self.num_classes = num_classes
        self.num_bins = num_bins
        self.add_count("examples")
        self.add_count("counts", num_classes, num_bins)
        self.add_sum("probability", num_classes, num_bins)
        self.add_count("members", num_classes, num_bins)

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        probability = logits.double().softmax(-1).T.contiguous()
        place = bin_of(probability, self.num_bins)
        counted = self.counted(probability)
        self.examples += len(labels)
        self.counts = self.counts.scatter_add(1, place, counted.long())
        self.probability = self.probability.scatter_add(1, place, probability * counted)
        self.members = self.members.scatter_add(1, place, one_hot(labels, self.num_classes).T * counted)

    def counted(self, probability: Float[Tensor, "C B"]) -> Bool[Tensor, "C B"]:
        """Which examples count for each class: all of them."""
        return torch.ones_like(probability, dtype=torch.bool)

    def errors(self) -> Float[Tensor, " C"]:
        """The error e_c of each class; nan for one for which no example counts."""
        return (self.probability - self.members).abs().sum(1) / self.counts.sum(1)
