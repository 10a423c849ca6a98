"""Logit adjustment by the class prior."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step


class TinyPrior(Recipe):
    """z ← z + τ·log π for the label loss alone, logits [B, C], π the share of each class in training.

    Source: Menon et al., Long-tail Learning via Logit Adjustment, 2021, arXiv 2007.07314.

    Args:
        tau: strength of the shift.
    """

    paper = "Menon et al., Long-tail Learning via Logit Adjustment, 2021, arXiv 2007.07314"
    provides: ClassVar[frozenset[str]] = frozenset({"class_prior"})
    needs: ClassVar[frozenset[str]] = frozenset({"class_counts"})
    shift: Tensor

    def __init__(self, tau: float = 1.0) -> None:
        super().__init__()
        self.tau = tau

    def setup(self, task: Task, model: Classifier) -> None:
        if task.class_counts is None:
            raise ValueError("the class counts are not known")
        counts = task.class_counts.double().clamp(min=1)
        self.register_buffer("shift", self.tau * (counts / counts.sum()).log())

    def adjust(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        return logits + self.shift.to(logits.dtype), target
