"""Weights from how long an attack takes."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class TinyGairat(Recipe):
    """w = (1 + tanh(λ + 5(1 - 2κ))) / 2 for each example [B], κ the share of iterates still classified right.

    Source: Zhang et al., Geometry-aware Instance-reweighted Adversarial Training, 2021, arXiv 2010.01736.

    Args:
        bias: λ.
    """

    paper = "Zhang et al., Geometry-aware Instance-reweighted Adversarial Training, 2021, arXiv 2010.01736"
    needs: ClassVar[frozenset[str]] = frozenset({"kappa"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd": {}, "pgd_at": {}}

    def __init__(self, bias: float = -1.0) -> None:
        super().__init__()
        self.bias = bias

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"]:
        if batch.kappa is None:
            raise ValueError("the attack did not tell kappa")
        return (1 + torch.tanh(self.bias + 5 * (1 - 2 * batch.kappa))) / 2
