"""Epochs that make up for unequal classes."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from poise.recipe import Recipe, Task
from poise_recipes.reweighting.effective_number import inverse_effective_number


class ClassBalancedSampling(Recipe):
    """Draw the N examples of an epoch with replacement, an example of class c as often as (1-β)/(1-β^n_c).

    Batches [B, *input] come from these draws; the loss [B] is not weighed. With β = 1 every class that has training
    examples is drawn equally often. An epoch stays N draws, so examples of large classes are seen less often than
    once, and those of small ones many times.

    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019, arXiv 1901.05555, section 4.
    Departures: the paper weighs losses and draws evenly; to draw by its weights is the `Resample` rule in the code of
    Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019, arXiv 1906.07413.

    Args:
        beta: β; 0 draws all examples equally often, 1 all classes.
    """

    paper = "Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019, arXiv 1901.05555"
    provides: ClassVar[frozenset[str]] = frozenset({"class_prior"})
    needs: ClassVar[frozenset[str]] = frozenset({"class_counts"})
    conflicts: ClassVar[frozenset[str]] = frozenset({"class_prior"})  # classes would be made up for twice

    def __init__(self, beta: Annotated[float, Ge(0), Le(1)] = 0.9999) -> None:
        super().__init__()
        self.beta = beta

    def sample_weights(self, task: Task, epoch: int) -> Float[Tensor, " N"]:
        """How often each example is drawn [N], in proportion."""
        if task.class_counts is None or task.label is None:
            raise ValueError("the classes of the training examples are not known")
        return inverse_effective_number(task.class_counts, self.beta)[task.label]
