"""Gaussian noise on what the loss sees."""

from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class TinyNoise(Recipe):
    """x ← x + σn with n ~ N(0, I), inputs [B, *input], in the loss's passes: attacks see the model without noise.

    Source: Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, 2019, arXiv 1902.02918.

    Args:
        sigma: σ >= 0, in units of the input.
    """

    paper = "Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, 2019, arXiv 1902.02918"

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.sigma = sigma

    def transform(self, layer: str, h: Tensor, batch: Batch, step: Step) -> Tensor:
        return h + self.sigma * step.normal(batch, h, "noise") if layer == "input" else h
