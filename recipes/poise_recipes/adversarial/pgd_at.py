"""Adversarial training on the attacked inputs alone."""

from typing import ClassVar

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class PGDAT(Recipe):
    """Train on the worst inputs found: ℓ = CE(f(x'), t), per example [B], with soft targets [B, C].

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083,
    equation 2.1. Departures from the authors' code: none in the loss; for the attack see `pgd`, which it brings.
    """

    paper = "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083"
    needs: ClassVar[frozenset[str]] = frozenset({"attack"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd": {}}

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The label loss [B] on `x_adv`."""
        adv = step.forward(batch.attacked, batch)
        return Outcome(step.loss(adv.logits, batch), adv=adv)
