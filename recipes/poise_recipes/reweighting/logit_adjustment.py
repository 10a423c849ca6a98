"""Logits that leave the class prior to the loss."""

from typing import Annotated, ClassVar

from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor

from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step


class LogitAdjustment(Recipe):
    """Train on z + τ·log π for logits z [B, C] in the label loss alone, π_c the share of class c in training.

    The model predicts by z itself, which with τ = 1 takes all classes for equally likely: accuracy over data with the
    prior of training falls where the mean over classes rises. Attacks and other loss terms see z. π is that of the
    training split as it stands; a member that draws examples by weight does not change it.

    Source: Menon et al., Long-tail learning via logit adjustment, 2021, arXiv 2007.07314, equation 10 (mode `loss` of
    their code). Departures from the authors' code: a class without training examples counts as one of one example;
    there 1e-12 is added to each π^τ.

    Args:
        tau: strength of the shift.
    """

    paper = "Menon et al., Long-tail learning via logit adjustment, 2021, arXiv 2007.07314"
    provides: ClassVar[frozenset[str]] = frozenset({"class_prior"})
    needs: ClassVar[frozenset[str]] = frozenset({"class_counts"})
    conflicts: ClassVar[frozenset[str]] = frozenset({"class_prior"})  # classes would be made up for twice
    shift: Tensor

    def __init__(self, tau: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.tau = tau

    def setup(self, task: Task, model: Classifier) -> None:
        """The shift of each class."""
        if task.class_counts is None:
            raise ValueError("the class counts are not known")
        self.register_buffer("shift", self.tau * log_prior(task.class_counts))

    def adjust(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Shifted logits [B, C], and the targets as they are."""
        return logits + self.shift.to(logits.dtype), target


def log_prior(counts: Int[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Log of each class's share [C] of all examples, in float64; a class without examples counts as one of one."""
    present = counts.double().clamp(min=1)
    return (present / present.sum()).log()
