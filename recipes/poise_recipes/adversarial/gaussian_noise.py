"""Gaussian noise on the inputs of the loss."""

from typing import Annotated, ClassVar

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class GaussianNoise(Recipe):
    """Train on x + σ·n with n ~ N(0, I), inputs [B, *input]: the base of a classifier smoothed with the same noise.

    The noise is that of the step: the same on clean and on attacked inputs, and where the loss is evaluated twice.
    It is added in the units of the data, before the model normalises, and never clipped to the valid range: the
    smoothed classifier is asked about x + σ·n as it is, and clipped noise is weaker next to black and white than
    in between. Attacks and validation see the model without noise. What it proves is measured by evaluation=certify,
    whose sigma should be the same.

    Source: Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, 2019, arXiv 1902.02918,
    section 3.3. Departures from the authors' code: none in training; theirs adds noise in validation as well.

    Args:
        sigma: σ, in input units. 0.12, 0.25, 0.5 and 1 in the authors' experiments on pictures in [0, 1].
    """

    paper = "Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, 2019, arXiv 1902.02918"
    provides: ClassVar[frozenset[str]] = frozenset({"noise"})
    accepts: ClassVar[frozenset[str]] = frozenset({"image", "tabular"})

    def __init__(self, sigma: Annotated[float, Ge(0)] = 0.25) -> None:
        super().__init__()
        self.sigma = sigma

    def transform(self, layer: str, h: Float[Tensor, "B ..."], batch: Batch, step: Step) -> Float[Tensor, "B ..."]:
        """The inputs with noise; what layers give as it is."""
        return h + self.sigma * step.normal(batch, h, "noise") if layer == "input" else h
