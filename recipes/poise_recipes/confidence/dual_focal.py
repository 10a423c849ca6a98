"""Dual focal loss."""

from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step
from poise_recipes.confidence.focal import focused, log_rest


class DualFocal(Recipe):
    """Focal loss that also looks at the rival: -Σ_c t_c·(1 - p_c + r_c)^γ·log p_c for each example [B].

    p [B, C] is softmax of the logits that the label loss sees, t [B, C] the targets, and r_c the largest probability
    that is smaller than p_c, 0 if there is none. So r_c is not the runner-up where the prediction is wrong: larger
    probabilities, and ties, are passed over. The gradient flows through r_c. Of soft targets, mixed or smoothed,
    every class counts by its share as a label of its own would. γ = 0 is the cross-entropy.

    Source: Tao et al., Dual Focal Loss for Calibration, 2023, arXiv 2305.13665. Departures from the authors' code:
    the mean over the batch instead of their sum, and 1 - p without cancellation. Soft targets are not theirs.

    Args:
        gamma: γ; published for ResNet-50 are 5 on CIFAR-10 and CIFAR-100, and 2.3 on Tiny-ImageNet.
    """

    paper = "Tao et al., Dual Focal Loss for Calibration, 2023, arXiv 2305.13665"

    def __init__(self, gamma: Annotated[float, Ge(0)] = 5.0) -> None:
        super().__init__()
        self.gamma = gamma

    def criterion(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> Float[Tensor, " B"]:
        """The dual focal loss [B]."""
        log_p = logits.log_softmax(1)
        return focused(log_p, torch.logaddexp(log_rest(log_p), log_next(log_p)), self.gamma, target)


def log_next(log_p: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """For each class the largest value of its row that is smaller than its own, -inf where there is none."""
    ordered = log_p.sort(dim=1, stable=True).values
    smaller = torch.searchsorted(ordered.detach(), log_p.detach().contiguous())
    return ordered.gather(1, (smaller - 1).clamp(min=0)).masked_fill(smaller == 0, -torch.inf)
