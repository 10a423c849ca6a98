"""Teaching a mixture of two classifiers which of them to trust."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from poise.batch import Batch, InnerLoss, Outcome
from poise.losses import soft_cross_entropy
from poise.recipe import Passes, Recipe
from poise.step import Step

LAYER = "mixing"  # of the model, which gives γ [B, 1]


class ConfidenceMix(Recipe):
    """Teach a mixture to trust its robust member under attack: ℓ = w·L(x, 0) + L(x', 1), for inputs and attacked ones.

    L(x, s) = b·BCE(γ(x), s) + c·CE(f(x), t) + d·BCE·CE, where γ, of which the robust member's share is the sigmoid,
    is what the layer `mixing` of `model=mixture` gives, per example [B], and t [B, C] may be soft. The attack maximises
    (1 - u)·CE + u·BCE(γ, 1), u uniform in 0…`deceit` for each example: on the whole mixture, and in part on its network
    alone. Only the network is trained; the members are frozen.

    Source: Bai et al., Improving the Accuracy-Robustness Trade-Off of Classifiers via Adaptive Smoothing, 2024, arXiv
    2301.12554, and Bai-YT/AdaptiveSmoothing. Departures from the authors' code: the stack's one attack, `pgd` unless
    another is named, at the threat's eps, for their APGD on the cross-entropy and on nine targets with random radius
    and number of steps; `clean` makes up for the attacked inputs, of which they have ten to each clean one; the attack
    sees α as it is evaluated, between the model's ends. For γ's batch norm and clamp see `mixture`.

    Args:
        clean: w, 1 or 2 in the authors' files, which also add clean inputs.
        bce: b. 1.5 with large members on CIFAR-10; 1 in their other files.
        ce: c. 0 with large members, 0.5 in the other files.
        product: d. 0.3 and 0.2 with large members, 0.1 in the other files.
        deceit: most that deceiving the network counts in the attack.
    """

    paper = (
        "Bai et al., Improving the Accuracy-Robustness Trade-Off of Classifiers via Adaptive Smoothing, 2024, "
        "arXiv 2301.12554"
    )
    provides: ClassVar[frozenset[str]] = frozenset({"clean"})
    needs: ClassVar[frozenset[str]] = frozenset({"attack", "layers", "layer:mixing"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd": {}}

    def __init__(
        self,
        clean: Annotated[float, Ge(0)] = 2.0,
        bce: Annotated[float, Ge(0)] = 1.0,
        ce: Annotated[float, Ge(0)] = 0.5,
        product: Annotated[float, Ge(0)] = 0.1,
        deceit: Annotated[float, Ge(0), Le(1)] = 0.4,
    ) -> None:
        super().__init__()
        self.clean = clean
        self.bce = bce
        self.ce = ce
        self.product = product
        self.deceit = deceit

    def passes(self) -> Passes:
        """The attacked pass of the loss."""
        return Passes(forwards=1, full_backwards=1)

    def inner(self, batch: Batch, step: Step) -> InnerLoss:
        """X [B, *input] -> (1 - u)·CE + u·BCE(γ, 1), [B]."""
        share = self.deceit * step.uniform(batch, batch.target[:, 0], "deceit").to(batch.target.dtype)

        def loss(x: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
            with _heard(step.model.backbone.get_submodule(LAYER)) as gamma:
                logits = step.model(x)  # a call, which attacks listen to
            return (1 - share) * soft_cross_entropy(logits, batch.target) + share * trust_loss(gamma[0], attacked=True)

        return loss

    def objective(self, batch: Batch, step: Step) -> Outcome:
        """The loss [B], and how far the network tells attacked inputs."""
        clean, adv = step.forward(batch.x, batch), step.forward(batch.attacked, batch)
        on_clean = self._loss(trust_loss(clean.layers[LAYER], attacked=False), step.loss(clean.logits, batch))
        on_attacked = self._loss(trust_loss(adv.layers[LAYER], attacked=True), step.loss(adv.logits, batch))
        terms = {"share_clean": clean.layers[LAYER].sigmoid(), "share_attacked": adv.layers[LAYER].sigmoid()}
        return Outcome(self.clean * on_clean + on_attacked, clean=clean, adv=adv, terms=terms)

    def _loss(self, trust: Float[Tensor, " B"], label: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        return self.bce * trust + self.ce * label + self.product * trust * label


@contextmanager
def _heard(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What a layer gives meanwhile."""
    heard: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: heard.append(output))
    try:
        yield heard
    finally:
        handle.remove()


def trust_loss(gamma: Float[Tensor, "B 1"], *, attacked: bool) -> Float[Tensor, " B"]:
    """The binary cross-entropy [B] of sigmoid(γ), which is to be 1 on attacked inputs and 0 on others, in nats."""
    return softplus(-gamma if attacked else gamma)[:, 0]
