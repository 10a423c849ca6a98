"""Focal loss."""

import math
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class Focal(Recipe):
    """Care less for what is learnt: the label loss is -Σ_c t_c·(1 - p_c)^γ·log p_c for each example [B].

    p [B, C] is softmax of the logits that the label loss sees, t [B, C] the targets. Of soft targets, mixed or
    smoothed, every class counts by its share as a label of its own would: this is the mean of the losses that the
    classes would have as labels, so mixing targets and mixing losses are the same. γ = 0 is the cross-entropy. With
    `hard_below` the exponent of a class is `hard_gamma` as long as its probability is below that: FLSD-53, the
    paper's choice by sample, is gamma=3 hard_gamma=5 hard_below=0.2. Attacks maximise what they do without it.

    Source: Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, 2020, arXiv 2002.09437; the loss itself:
    Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv 1708.02002. Departures from the authors' code: they
    sum the loss over the batch and clip the norm of its gradient at 2, which their learning rate is for; here it is
    the mean, as everywhere. 1 - p is computed without cancellation, so slopes are finite for γ below one too. Soft
    targets are not theirs.

    Args:
        gamma: γ; published are 1 to 3.
        hard_gamma: γ of a class that is still improbable.
        hard_below: the probability under which it is, in [0, 1]; 0 means that `gamma` alone counts.
    """

    paper = "Mukhoti et al., Calibrating Deep Neural Networks using Focal Loss, 2020, arXiv 2002.09437"

    def __init__(
        self,
        gamma: Annotated[float, Ge(0)] = 3.0,
        hard_gamma: Annotated[float, Ge(0)] = 5.0,
        hard_below: Annotated[float, Ge(0), Le(1)] = 0.0,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.hard_gamma = hard_gamma
        self.hard_below = hard_below

    def criterion(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> Float[Tensor, " B"]:
        """The focal loss [B]."""
        log_p = logits.log_softmax(1)
        hard = log_p.detach().exp() < self.hard_below
        gamma = torch.full_like(log_p, self.gamma, requires_grad=False).masked_fill(hard, self.hard_gamma)
        return focused(log_p, log_rest(log_p), gamma, target)


def focused(
    log_p: Float[Tensor, "B C"],
    log_factor: Float[Tensor, "B C"],
    gamma: Float[Tensor, "B C"] | float,
    target: Float[Tensor, "B C"],
) -> Float[Tensor, " B"]:
    """-Σ_c t_c·f_c^γ·log p_c of each example; a class without a share in the target adds nothing, even masked ones."""
    return -(target * (gamma * log_factor).exp() * log_p.masked_fill(target == 0, 0.0)).sum(1)


def log_rest(log_p: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
    """log(1 - p) of each class, finite and without cancellation: the likeliest class leaves the sum of the others."""
    top = log_p.argmax(1, keepdim=True)
    others = log_p.scatter(1, top, -torch.inf)
    rest = torch.log1p(-others.exp()).scatter(1, top, others.logsumexp(1, keepdim=True))
    return rest.clamp(min=math.log(torch.finfo(log_p.dtype).tiny))
