"""How often the class with the largest logit is the right one."""

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.metrics.base import LogitsMetric
from poise.number_checks import check_counts


class Accuracy(LogitsMetric):
    """Share of examples whose prediction is their label; the lowest class wins a tie.

    Args:
        options: of torchmetrics.Metric.
    """

    higher_is_better = True
    correct: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_count("correct")
        self.add_count("count")

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        self.correct += (logits.argmax(-1) == labels).sum()
        self.count += len(labels)

    def result(self) -> Float[Tensor, ""]:
        """The share over all examples so far."""
        return self.correct.double() / self.count


class ClassAccuracy(LogitsMetric):
    """Accuracy on the examples of each class, [C]; nan for a class without examples.

    Args:
        num_classes: number of classes C.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_classes is no whole number >= 1.
    """

    higher_is_better = True
    num_classes: int
    correct: Tensor
    count: Tensor

    def __init__(self, num_classes: int, **options: Any) -> None:
        super().__init__(**options)
        check_counts(type(self).__name__, num_classes=num_classes)
        self.num_classes = num_classes
        self.add_count("correct", num_classes)
        self.add_count("count", num_classes)

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        member = one_hot(labels, self.num_classes)
        self.count += member.sum(0)
        self.correct += (member * (logits.argmax(-1) == labels)[:, None]).sum(0)

    def result(self) -> Float[Tensor, " C"]:
        """The share in each class over all examples so far."""
        return self.correct.double() / self.count
