"""Weights that make up for unequal classes."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step
from poise_recipes.reweighting.effective_number import inverse_effective_number


class ClassBalanced(Recipe):
    """Weigh the loss of each example [B] by its class: w_c ∝ (1-β)/(1-β^n_c), n_c the class's training examples.

    A row weighs Σ_c t_c·w_c by its target t [B, C], so a mixed one the mean of its parents' weights by their shares.
    What the label loss makes of targets (smoothing) changes no weight.

    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019, arXiv 1901.05555, section 4.
    Departures from the authors' code: only the ratios of the weights count. There Σ_c w_c = C and the loss is the
    plain mean of w·ℓ over the batch: on a long tail far smaller than an unweighted one, and larger in a batch with
    rare classes. Here the weights' mean over the batch is one, as in PyTorch's weighted cross-entropy, so learning
    rates need no change. A class without training examples has weight zero, not infinity.

    Args:
        beta: β; 0 weighs all classes alike, 1 by 1/n_c.
    """

    paper = "Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019, arXiv 1901.05555"
    provides: ClassVar[frozenset[str]] = frozenset({"class_prior"})
    needs: ClassVar[frozenset[str]] = frozenset({"class_counts"})
    conflicts: ClassVar[frozenset[str]] = frozenset({"class_prior"})  # classes would be made up for twice
    class_weight: Tensor

    def __init__(self, beta: Annotated[float, Ge(0), Le(1)] = 0.9999) -> None:
        super().__init__()
        self.beta = beta

    def setup(self, task: Task, model: Classifier) -> None:
        """The weight of each class."""
        if task.class_counts is None:
            raise ValueError("the class counts are not known")
        self.register_buffer("class_weight", inverse_effective_number(task.class_counts, self.beta))

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"]:
        """The weight of each example's target [B]."""
        return batch.target @ self.class_weight.to(batch.target.dtype)
