"""Focal loss."""

from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class TinyFocal(Recipe):
    """ℓ = -Σ_c t_c·(1 - p_c)^γ·log p_c for each example [B]; the gradient flows through both factors.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv 1708.02002, with soft targets [B, C].

    Args:
        gamma: γ >= 1.
    """

    paper = "Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv 1708.02002"

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def criterion(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> Float[Tensor, " B"]:
        log_p = logits.log_softmax(1)
        return -(target * (1 - log_p.exp()) ** self.gamma * log_p).sum(1)
