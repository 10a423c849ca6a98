"""Weights from the energy of the clean input."""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class TinyWeat(Recipe):
    """w = 1 / log(1 + exp|E(x)|) for each example [B], E = -logsumexp of its clean logits [B, C]; not normalised.

    Source: Mirza et al., Shedding More Light on Robust Classifiers under the lens of Energy-based Models, 2024,
    arXiv 2407.06315: its weight alone, for any objective.
    """

    paper = "Mirza et al., Shedding More Light on Robust Classifiers under the lens of Energy-based Models, 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"clean"})
    relative: ClassVar[bool] = False

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"]:
        if outcome.clean is None:
            raise ValueError("the outcome has no clean logits")
        return 1 / F.softplus(outcome.clean.logits.detach().logsumexp(1).abs())
