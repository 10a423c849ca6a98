"""A kernel calibration error as a penalty."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class TinyMmce(Recipe):
    """μ/B²·Σ_ij (a_i - s_i)(a_j - s_j)·exp(-|s_i - s_j|/0.4) over all ranks' examples.

    s [B] is the confidence and a [B] the target's share in the predicted class.

    Source: Kumar et al., Trainable Calibration Measures for Neural Networks from Kernel Mean Embeddings, 2018.

    Args:
        strength: μ >= 0.
    """

    paper = "Kumar et al., Trainable Calibration Measures for Neural Networks from Kernel Mean Embeddings, 2018"
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 2  # a gather, and the sum in its backward

    def __init__(self, strength: float = 2.0) -> None:
        super().__init__()
        self.strength = strength

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""]:
        confidence, predicted = outcome.on.logits.softmax(1).max(1)
        gap = batch.target.gather(1, predicted[:, None])[:, 0] - confidence
        every = step.ranks.gather(torch.stack([confidence, gap], 1))
        kernel = torch.exp(-(confidence[:, None] - every[None, :, 0]).abs() / 0.4)
        return self.strength * (gap[:, None] * every[None, :, 1] * kernel).mean()
