"""TRADES: a trade between accuracy and a smooth decision around each input."""

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge

from poise.batch import Batch, InnerLoss, Outcome
from poise.losses import divergence_from, kl_divergence
from poise.recipe import Passes, Recipe
from poise.step import Step


class Trades(Recipe):
    """Trade accuracy for a smooth decision around each input: ℓ = CE(f(x), t) + β·KL(p(x) ‖ p(x')).

    The loss is per example [B], for inputs [B, *input] and targets [B, C] (soft ones too: only the cross-entropy sees
    them); x' maximises the same KL inside the threat. The gradient goes through both arguments of the KL. The attack
    brought is `pgd` with the normal start: at x itself the KL has no gradient. Two passes for the loss, and one without
    gradient for the attack, beside the attack's own.

    Source: Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy, 2019, arXiv 1901.08573,
    equation 5 with β = 1/λ. Departures from the authors' code: the clean batch is passed once for both terms and
    its probabilities are computed once for the whole attack (same loss and gradient; batch norm's statistics are
    updated by two passes, not three). Default β = 6 is that of their CIFAR-10 script; their function's own is 1. Under
    l2 their steps are 2·eps/steps long (`pgd.step_size`), and an input whose gradient is exactly zero takes a step of
    noise, where it stays here; they clip to the range before they shorten to eps, the threat after.

    Args:
        beta: weight of the KL term.
        label_on: the inputs of the cross-entropy. `attacked`, CE(f(x'), t), is no TRADES, but half of WEAT_adv: see
            `weat`.
    """

    paper = "Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy, 2019, arXiv 1901.08573"
    provides: ClassVar[frozenset[str]] = frozenset({"clean"})
    needs: ClassVar[frozenset[str]] = frozenset({"attack"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd": {"start": "normal"}}

    def __init__(self, beta: Annotated[float, Ge(0)] = 6.0, label_on: Literal["clean", "attacked"] = "clean") -> None:
        super().__init__()
        self.beta = beta
        self.label_on = label_on

    def passes(self) -> Passes:
        """Clean probabilities for the attack, and the adversarial pass of the loss."""
        return Passes(forwards=2, full_backwards=1)

    def inner(self, batch: Batch, step: Step) -> InnerLoss:
        """X [B, *input] -> KL(p(batch.x) ‖ p(x)) [B]."""
        with torch.no_grad():
            divergence = divergence_from(step.model(batch.x))
        return lambda x: divergence(step.model(x))

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The loss [B], and its two terms for the log."""
        clean, adv = step.forward(batch.x, batch), step.forward(batch.attacked, batch)
        labelled = {"clean": clean, "attacked": adv}[self.label_on]
        label_loss = step.loss(labelled.logits, batch)
        divergence = kl_divergence(clean.logits, adv.logits)
        terms = {"label_loss": label_loss, "kl": divergence}
        return Outcome(label_loss + self.beta * divergence, clean=clean, adv=adv, terms=terms)
