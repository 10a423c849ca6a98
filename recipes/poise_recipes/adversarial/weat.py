"""WEAT: weights by the energy of the clean input."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from poise.batch import Batch, Outcome
from poise.recipe import Recipe
from poise.step import Step


class WEAT(Recipe):
    """Weigh examples [B] by 1/log(1 + exp|E(x)|), where E(x) = -log Σ_k exp f_k(x) is the energy of the clean input.

    An input that the model knows little of has an energy near zero and the greatest weight, 1/log 2. Weights are
    constants to the gradient, and coefficients as published: their mean over the batch is not one, and falls as the
    logits [B, C] grow. Whatever moves logits by a constant or a factor changes them. Soft targets change no weight.

    Brought to `trades`, it is WEAT_nat of the paper; WEAT_adv is the same with `trades` taking its label loss on the
    attacked inputs (`recipe.trades.label_on=attacked`). It stacks on other objectives too, and there costs one clean
    pass where they make none; else it costs no pass. The mean energies of clean and attacked inputs and their
    difference are logged: they part where robust overfitting begins.

    Source: Mirza et al., Shedding More Light on Robust Classifiers under the lens of Energy-based Models, 2024, arXiv
    2407.06315, section 3. Departures from the authors' code: none in the loss; see `trades` for the passes it saves.
    """

    paper = (
        "Mirza et al., Shedding More Light on Robust Classifiers under the lens of Energy-based Models, 2024, "
        "arXiv 2407.06315"
    )
    relative: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"clean"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"trades": {}, "pgd": {"start": "normal"}}

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"]:
        """The weights [B], in (0, 1/log 2]."""
        if outcome.clean is None:
            raise ValueError("the outcome has no clean logits")
        clean = energy(outcome.clean.logits.detach())
        step.log("weat/energy", clean)
        if outcome.adv is not None:
            attacked = energy(outcome.adv.logits.detach())
            step.log("weat/energy_attacked", attacked)
            step.log("weat/energy_difference", clean - attacked)
        return 1 / softplus(clean.abs())


def energy(logits: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """-log Σ_k exp(logits_k) of each example, in nats: the lower, the likelier the model finds the input."""
    return -logits.logsumexp(1)
