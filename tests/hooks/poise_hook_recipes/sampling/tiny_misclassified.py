"""The first stage of just train twice."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from poise.recipe import Recipe
from poise.step import Step


class TinyMisclassified(Recipe):
    """Leave a table `errors` [N]: 1 for training examples that the trained model gets wrong, 0 for the others.

    Source: Liu et al., Just Train Twice: Improving Group Robustness without Training Group Information, 2021,
    arXiv 2107.09044.
    """

    paper = "Liu et al., Just Train Twice, 2021, arXiv 2107.09044"
    needs: ClassVar[frozenset[str]] = frozenset({"predict"})

    def after_fit(self, step: Step) -> Mapping[str, Tensor]:
        seen = step.predict("train")
        return {"errors": (seen.logits.argmax(1) != seen.label).float()}
