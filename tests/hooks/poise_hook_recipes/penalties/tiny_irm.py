"""Invariant risk minimisation."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step


class TinyIrm(Recipe):
    """μ·mean over groups of D_g², where D_g = d/ds of the group's cross-entropy at logits s·z [B, C], s = 1.

    Groups are those of the global batch: D_g is nonlinear in them, so their sums are taken over ranks.

    Source: Arjovsky et al., Invariant Risk Minimization, 2019, arXiv 1907.02893, penalty IRMv1.

    Args:
        strength: μ >= 0.
    """

    paper = "Arjovsky et al., Invariant Risk Minimization, 2019, arXiv 1907.02893"
    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 2  # a sum, and the one in its backward

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def setup(self, task: Task, model: Classifier) -> None:
        self.num_groups = task.num_groups

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""]:
        if batch.group is None:
            raise ValueError("the batch has no groups")
        logits = outcome.on.logits
        slope = ((logits.softmax(1) - batch.target) * logits).sum(1)
        here = torch.stack([slope, torch.ones_like(slope)])
        sums = here.new_zeros(2, self.num_groups).index_add(1, batch.group, here)
        total, count = step.ranks.sum(sums)
        return self.strength * (total / count.clamp(min=1)).square().sum() / (count > 0).sum()
