"""MART: adversarial training that looks harder at what is misclassified."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.losses import kl_divergence, soft_cross_entropy
from poise.recipe import Passes, Recipe
from poise.step import Step

MARGIN = 1.0001  # 1 + 1e-4, as in the authors' code: the margin term is at most -log 1e-4 = 9.2 nats


class MART(Recipe):
    """Train on attacked inputs, and towards the clean ones' predictions the more, the less right those are.

    ℓ = CE(f(x'), t) + M(f(x'), t) + β·KL(p(x) ‖ p(x'))·(1 - p_t(x)), per example [B], for targets [B, C]. Against a
    class k the margin term M is -log(1.0001 - max_{j≠k} p_j(x')). x' maximises the cross-entropy from `pgd`'s normal
    start, which it brings; one clean and one adversarial pass. The gradient goes through both arguments of the KL and
    through its weight.

    Soft targets, for which there is no published rule, take CE + M of each class by its share, and p_t = Σ_k t_k·p_k:
    of a mixed example that is the mixture of its parents' losses. CE and M see what the stack makes of logits and
    targets (smoothing, a prior shift), the KL and its weight the raw ones. A criterion of another recipe has no place.

    Source: Wang et al., Improving Adversarial Robustness Requires Revisiting Misclassified Examples, 2020, OpenReview
    rklOg6EFwS. Departures from the authors' code: of its constants the 1.0001 of M is kept, where the
    paper has 1, for it bounds the loss and changes it; 1e-12 in logarithms and 1e-7 in the weight are left out, for
    logarithms of probabilities are taken from logits. Their code attacks in linf alone; here the threat decides.
    Re-runs by others find less robustness under AutoAttack than TRADES has, with more under PGD: look at both.

    Args:
        beta: weight of the KL term. 5 in the authors' script for ResNet-18, 6 in that for WideResNet-34-10.
    """

    paper = (
        "Wang et al., Improving Adversarial Robustness Requires Revisiting Misclassified Examples, 2020, "
        "OpenReview rklOg6EFwS"
    )
    provides: ClassVar[frozenset[str]] = frozenset({"clean"})
    needs: ClassVar[frozenset[str]] = frozenset({"attack"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd": {"start": "normal"}}

    def __init__(self, beta: Annotated[float, Ge(0)] = 5.0) -> None:
        super().__init__()
        self.beta = beta

    def passes(self) -> Passes:
        """The clean pass beside the adversarial one."""
        return Passes(forwards=1, full_backwards=1)

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The loss [B], and its two terms for the log."""
        clean, adv = step.forward(batch.x, batch), step.forward(batch.attacked, batch)
        logits, target = step.adjusted(adv.logits, batch)
        label_loss = soft_cross_entropy(logits, target) + margin_loss(logits, target)
        doubt = 1 - (batch.target * clean.logits.softmax(1)).sum(1)
        divergence = kl_divergence(clean.logits, adv.logits) * doubt
        terms = {"label_loss": label_loss, "kl": divergence}
        return Outcome(label_loss + self.beta * divergence, clean=clean, adv=adv, terms=terms)


def margin_loss(logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """Σ_k t_k·(-log(1.0001 - max_{j≠k} p_j)) of each example, in nats, -1e-4 or more and at most 9.2."""
    (first, second), (winner, _) = (found.unbind(1) for found in logits.softmax(1).topk(2, dim=1))
    classes = torch.arange(logits.shape[1], device=logits.device)
    rival = torch.where(classes == winner[:, None], second[:, None], first[:, None])
    return -(target * (MARGIN - rival).log()).sum(1)
