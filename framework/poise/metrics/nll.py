"""The log score."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from poise.metrics.base import LogitsMetric


class NegativeLogLikelihood(LogitsMetric):
    """Mean of `-log softmax(logits)_label` over examples, in nats; inf where a label has no probability.

    Args:
        options: of torchmetrics.Metric.
    """

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_sum("total")
        self.add_count("count")

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        self.total -= logits.double().log_softmax(-1).gather(1, labels[:, None]).sum()
        self.count += len(labels)

    def result(self) -> Float[Tensor, ""]:
        """The mean over all examples so far."""
        return self.total / self.count
