"""Adversarial training on the attacked inputs alone."""

from typing import ClassVar

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class PGDAT(Recipe):
    """Train on the worst inputs found: ℓ = CE(f(x'), t), per example [B], with soft targets [B, C].

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083,
    equation 2.1. Departures from the authors' code: none in the loss; for the attack see `pgd`, which it brings. The
    code of Rice et al., Overfitting in adversarially robust deep learning, 2020, arXiv 2002.11569, makes two further
    passes in training mode, of attacked inputs before each step and of clean ones after it: they change nothing but
    batch norm's running statistics, which are of passes that train or attack alone here.
    """

    paper = "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083"
    needs: ClassVar[frozenset[str]] = frozenset({"attack"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd": {}}

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The label loss [B] on `x_adv`."""
        adv = step.forward(batch.attacked, batch)
        return Outcome(step.loss(adv.logits, batch), adv=adv)
