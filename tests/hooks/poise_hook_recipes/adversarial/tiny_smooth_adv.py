"""Adversarial training of a classifier under noise."""

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.losses import soft_cross_entropy
from poise.recipe import Recipe
from poise.step import Step


class TinySmoothAdv(Recipe):
    """ℓ = CE(f(x' + σn), t) [B], where x' [B, *input] maximises the same under the same noise n ~ N(0, I).

    Source: Salman et al., Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers, 2019,
    arXiv 1906.04584, with one noise sample.
    """

    paper = "Salman et al., Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers, 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"attack"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd": {}}

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__()
        self.sigma = sigma

    def inner(self, batch: Batch, step: Step) -> Callable[[Tensor], Tensor]:
        noise = self._noise(batch, step)
        return lambda x: soft_cross_entropy(step.model(x + noise), batch.target)

    def objective(self, batch: Batch, step: Step) -> Outcome:
        adv = step.forward(batch.attacked + self._noise(batch, step), batch)
        return Outcome(step.loss(adv.logits, batch), adv=adv)

    def _noise(self, batch: Batch, step: Step) -> Float[Tensor, "B *input"]:
        return self.sigma * step.normal(batch, batch.x, "noise")
