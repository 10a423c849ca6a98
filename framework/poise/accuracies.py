"""Accuracy while a model trains: of all examples, of the worst class and of the worst group."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchmetrics import Metric

from poise.metrics import Accuracy


class Accuracies(nn.Module):
    """Accuracy, as a share, of all examples, of the class where it is lowest and, with groups, of the lowest group.

    Args:
        num_classes: C.
        num_groups: G; 0 looks at no groups.
    """

    def __init__(self, num_classes: int, num_groups: int = 0) -> None:
        super().__init__()
        self.num_groups = num_groups
        self.whole = Accuracy()
        self.worst_class, self.worst_group = WorstAccuracy(num_classes), WorstAccuracy(num_groups)

    def add(self, logits: Float[Tensor, "B C"], label: Int[Tensor, " B"], group: Int[Tensor, " B"] | None) -> None:
        """Add examples; on every rank groups are known of all of them or of none."""
        self.whole.add(logits, label)
        right = logits.argmax(1) == label
        self.worst_class.update(right, label)
        if self.num_groups and group is not None:
            self.worst_group.update(right, group)

    def results(self, name: str) -> dict[str, Float[Tensor, ""]]:
        """`worst_class_<name>`, `worst_group_<name>` where groups were seen, `<name>`; over all ranks. Begins anew."""
        metrics = {f"worst_class_{name}": self.worst_class, f"worst_group_{name}": self.worst_group, name: self.whole}
        found = {name: metric.compute() for name, metric in metrics.items() if metric.update_called}
        for metric in metrics.values():
            metric.reset()
        return found


class WorstAccuracy(Metric):
    """The lowest share of right examples in any part of them; parts without examples do not count.

    Args:
        parts: how many parts there are.
        options: of torchmetrics.Metric.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    right: Tensor
    count: Tensor

    def __init__(self, parts: int, **options: Any) -> None:
        super().__init__(**options)
        for name in ("right", "count"):
            self.add_state(name, torch.zeros(parts, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, right: Bool[Tensor, " B"], part: Int[Tensor, " B"]) -> None:
        """Add examples, of parts from 0; nothing waits for an accelerator."""
        self.right.index_add_(0, part, right.long())
        self.count.index_add_(0, part, torch.ones_like(part))

    def compute(self) -> Float[Tensor, ""]:
        """The share in the worst part, over all ranks."""
        return (self.right.double() / self.count)[self.count > 0].min()
