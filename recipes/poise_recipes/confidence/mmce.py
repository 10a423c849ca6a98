"""A kernel calibration error as a penalty."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step
from poise_recipes.confidence.top_label import top_label


class MMCE(Recipe):
    """Add λ·Σ_ij (a_i - s_i)·(a_j - s_j)·exp(-|s_i - s_j|/w)/B², the squared maximum mean calibration error.

    s [B] is the confidence of the predicted class and a [B] the target's [B, C] share in it, a constant: 0 or 1, or in
    between of mixed targets. Predictions are those on the inputs trained on, the attacked ones where there are any, as
    raw logits have them, and the sum is over the pairs of all ranks' examples. Costs no pass, and B² of memory.

    Source: Kumar et al., Trainable Calibration Measures for Neural Networks from Kernel Mean Embeddings, 2018,
    PMLR 80:2805. Departures from the authors' code: none from its unweighted form, which is the square and not its
    root. What it trains with is a form that takes right and wrong predictions apart; there kernel means are divided by
    the numbers of pairs once more, so that the penalty shrinks with the batch, and published λ (2 to 10) do not carry
    over: choose λ by likelihood on the validation split.

    Args:
        weight: λ.
        width: w of the kernel, in units of confidence.
    """

    paper = (
        "Kumar et al., Trainable Calibration Measures for Neural Networks from Kernel Mean Embeddings, 2018, "
        "PMLR 80:2805"
    )
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 2  # a gather, and the sum in its backward

    def __init__(self, weight: Annotated[float, Ge(0)] = 2.0, width: Annotated[float, Gt(0)] = 0.4) -> None:
        super().__init__()
        self.weight = weight
        self.width = width

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, ""]:
        """λ times this rank's rows of the sum over pairs."""
        confidence, right = top_label(outcome.on.logits, batch.target)
        own = torch.stack([confidence, right - confidence], 1)
        return self.weight * kernel_mean(own, step.ranks.gather(own), self.width)


def kernel_mean(own: Float[Tensor, "B 2"], every: Float[Tensor, "N 2"], width: float) -> Float[Tensor, ""]:
    """The mean of r_i·r_j·exp(-|s_i - s_j|/width) over pairs of rows (s, r), one of `own` and one of `every`."""
    (s, r), (all_s, all_r) = own.unbind(1), every.unbind(1)
    kernel = torch.exp(-(s[:, None] - all_s).abs() / width)
    return (r[:, None] * all_r * kernel).mean()
