"""What is measured after each epoch: the model as it would be shipped, clean and under a short attack."""

import lightning as L
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from poise.accuracies import Accuracies
from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.distributed import Ranks
from poise.metrics import NegativeLogLikelihood
from poise.shipping import shipped_state
from poise.stack import RecipeStack

NLL = "val/nll"
LESS_IS_BETTER = frozenset({NLL})  # of what may choose an epoch


class Validation(nn.Module):
    """The metrics of a validation split by name: `val/nll`, `val/accuracy`, and `val/robust_accuracy` under PGD-10.

    Of each accuracy the worst class's and the worst group's are told as well, as `val/worst_class_accuracy`.

    Args:
        threat: of the attack.
        attacked: whether there is one.
        seed: of its draws.
        num_classes: C.
        num_groups: G; 0 looks at no groups.
    """

    def __init__(self, threat: Threat, attacked: bool, seed: int, num_classes: int, num_groups: int = 0) -> None:
        super().__init__()
        self.threat, self.seed = threat, seed
        self.nll = NegativeLogLikelihood()
        self.accuracies = Accuracies(num_classes, num_groups)
        self.robust_accuracies = Accuracies(num_classes, num_groups) if attacked else None
        self._own: dict[str, Shaped[Tensor, "..."]] = {}

    def begin(self, model: nn.Module, stack: RecipeStack, ranks: Ranks) -> None:
        """Put what would be shipped into the model: evaluation weights, batch statistics averaged over ranks."""
        shipped = shipped_state(model, stack, ranks)
        if shipped is not None:
            own = model.state_dict()
            self._own = {name: own[name].clone() for name in shipped}
            model.load_state_dict(shipped, strict=False)

    def end(self, model: nn.Module) -> None:
        """Put the weights that are being trained back."""
        if self._own:
            model.load_state_dict(self._own, strict=False)
            self._own = {}

    def look(
        self,
        model: nn.Module,
        x: Float[Tensor, "B *input"],
        label: Int[Tensor, " B"],
        position: Int[Tensor, " B"] | None,
        group: Int[Tensor, " B"] | None = None,
    ) -> None:
        """Measure on a batch, by as many passes on every rank.

        Args:
            model: in evaluation mode.
            x: inputs.
            label: true labels.
            position: of each example in the split, to which its draws belong; 0…B-1 where None.
            group: of each example, on all ranks or on none.
        """
        with torch.no_grad():
            logits = model(x)
        self.nll.add(logits, label)
        self.accuracies.add(logits, label, group)
        if self.robust_accuracies is not None:
            x_adv = PGD(self.threat, steps=10).in_lockstep(model, x, label, self.seed, position)
            with torch.no_grad():
                self.robust_accuracies.add(model(x_adv), label, group)

    def results(self) -> dict[str, Float[Tensor, ""]]:
        """Of the whole split, over all ranks, the one that matters most last; the next batch begins anew."""
        found = {"nll": self.nll.compute(), **self.accuracies.results("accuracy")}
        self.nll.reset()
        if self.robust_accuracies is not None:
            found |= self.robust_accuracies.results("robust_accuracy")
        return {f"val/{name}": value.float() for name, value in found.items()}


def validation_metrics(trainer: L.Trainer) -> dict[str, float]:
    """The latest validation's metrics by name: the same on all ranks, as what is logged in training is not."""
    return {n: float(value) for n, value in trainer.callback_metrics.items() if n.startswith("val/")}
