"""The confidence and correctness of every prediction."""

from abc import abstractmethod
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from poise.metrics.base import LogitsMetric, top_confidence
from poise.metrics.levels import Levels


class TopLabelMetric(LogitsMetric):
    """A metric on the confidence and correctness of every prediction: the lowest class with the largest logit.

    They are kept, 16 bytes for each example, and gathered from the ranks. A confidence that is no number makes the
    metric nan.

    Args:
        options: of torchmetrics.Metric.
    """

    higher_is_better = False
    confidence: list[Tensor] | Tensor
    correct: list[Tensor] | Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_values("confidence")
        self.add_values("correct")

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        self.append("confidence", top_confidence(logits))
        self.append("correct", (logits.argmax(-1) == labels).double())


class SortedMetric(TopLabelMetric):
    """A metric on predictions sorted by confidence.

    Args:
        options: of torchmetrics.Metric.
    """

    def result(self) -> Float[Tensor, ""]:
        """The metric over all examples so far."""
        confidence = self.values("confidence")
        if not len(confidence) or confidence.isnan().any():
            return confidence.new_tensor(float("nan"))
        return self.measured(Levels.of(confidence, self.values("correct")))

    @abstractmethod
    def measured(self, levels: Levels) -> Float[Tensor, "..."]:
        """The metric of the examples at these levels."""
