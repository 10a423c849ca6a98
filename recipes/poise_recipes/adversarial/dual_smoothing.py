"""Gaussian noise on one half of the pixels of each picture, the other half hidden."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.halves import checkerboards, half_in_noise
from poise.recipe import Recipe
from poise.step import Step


class DualSmoothing(Recipe):
    """Train on halves of pictures in noise, h + up(max(h)) with h = (x + σ·n)·mask: a base for dual smoothing.

    Pictures [B, channels, H, W]. The mask is one of the two of a checkerboard, each with a probability of 1/2 for each
    picture and step, and the same on clean and on attacked inputs, as the noise n ~ N(0, I) is; up(max(h)) are the
    maxima of squares of 2x2 at the pixels of the half. The network learns both halves, and knows them by what is 0.
    Attacks and validation see whole pictures without noise, which it is not made for, and the epoch is chosen by them:
    what it is worth, smoothed, is measured by evaluation=certify_dual, whose sigma should be the same.

    Source: Xia et al., Mitigating the Curse of Dimensionality for Certified Robustness via Dual Randomized Smoothing,
    2024, arXiv 2404.09586. Departures from the authors' code: one network for both halves, where theirs fine-tunes two
    from one that was trained on whole pictures; of their two losses the plain one, without that of consistency;
    validation, which in theirs is on halves in noise as well.

    Args:
        sigma: σ, in input units. 0.18, 0.25, 0.36 and 0.5 in the authors' experiments on pictures in [0, 1].
    """

    paper = (
        "Xia et al., Mitigating the Curse of Dimensionality for Certified Robustness via Dual Randomized Smoothing, "
        "2024, arXiv 2404.09586"
    )
    provides: ClassVar[frozenset[str]] = frozenset({"noise"})
    conflicts: ClassVar[frozenset[str]] = frozenset({"noise"})  # that of others would reach through the mask
    accepts: ClassVar[frozenset[str]] = frozenset({"image"})

    def __init__(self, sigma: Annotated[float, Ge(0)] = 0.18) -> None:
        super().__init__()
        self.sigma = sigma

    def transform(self, layer: str, h: Float[Tensor, "B ..."], batch: Batch, step: Step) -> Float[Tensor, "B ..."]:
        """One half of each input in noise; what layers give as it is."""
        if layer != "input":
            return h
        left, right = checkerboards(h)
        is_left = step.uniform(batch, h.new_empty(len(h), 1, 1, 1), "half") < 0.5
        return half_in_noise(h, self.sigma * step.normal(batch, h, "noise"), torch.where(is_left, left, right))
