"""The quadratic score."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.metrics.base import LogitsMetric


class Brier(LogitsMetric):
    """Brier score: the mean over examples of the squared error summed (not averaged) over classes; in 0…2.

    Brier: Verification of forecasts expressed in terms of probability, 1950. For two classes it is twice the
    mean of `(p_1 - label)²`.

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
        probabilities = logits.double().softmax(-1)
        self.total += (probabilities - one_hot(labels, logits.shape[1])).square().sum()
        self.count += len(labels)

    def result(self) -> Float[Tensor, ""]:
        """The mean over all examples so far."""
        return self.total / self.count
