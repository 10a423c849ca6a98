"""The fast gradient sign method from a random start, as a step of training that looks after itself."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt

from poise.attacks.pgd import pgd
from poise.batch import Batch
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.modes import in_mode
from poise.recipe import Passes, Recipe, Task
from poise.shipping import statistics
from poise.step import Step
from poise_recipes.adversarial.collapse import Look

LEAST = 0.05  # of accuracy: what a good training may lose, and win again

log = logging.getLogger("poise")


@dataclass(frozen=True)
class Good:
    """An epoch, counted from 1, and the accuracy after it."""

    epoch: int
    accuracy: float


class FGSMRS(Recipe):
    """Attack every batch by one gradient step from a random start: x' = P(x₀ + α·sign ∇ℓ(x₀)), x₀ uniform in the ball.

    Inputs and `x_adv` are [B, *input] in the valid range, P projects into ball and range, ℓ is the stack's inner
    loss; under l2 and l1 the step is that of `Threat.direction`. For the price of one gradient it comes near
    `pgd`, until it overfits to itself. Where no member has an objective it brings that of `pgd_at`, which trains on
    `x_adv`; `trades` and others take it in place of `pgd`.

    After each epoch it looks at a fixed sample of unmixed training examples: accuracy under PGD with five steps of
    eps/4, and how well gradients at an input and near it agree. Where the accuracy has lost more than the part `drop`
    of what it was after the best epoch so far, and five points at least, all ranks say so, or with `restore` end the
    training with the weights of that epoch, which are kept beside the model for it: its memory once more, on each
    rank. They are validated as the weights of the last epoch; averages of other recipes are not taken back. Under a
    foreign loader, which is read once, nothing is looked at.

    Source: Wong et al., Fast is better than free: Revisiting adversarial training, 2020, arXiv 2001.03994,
    algorithm 3. Departures from the authors' code: the model attacks itself in evaluation mode, as in `pgd`, where
    theirs keeps batch norm in training mode; `mode` restores it. Each value starts uniformly in its own ball; theirs
    takes the upper end of every channel from the first one. They stop when PGD accuracy on the epoch's first batch,
    another each time and in training mode, falls by 0.2 from one epoch to the next, which a slow fall never does, nor
    one from a low accuracy. The agreement of gradients is that of Andriushchenko
    and Flammarion, Understanding and Improving Fast Adversarial Training, 2020, arXiv 2007.02617.

    Args:
        step_size: α, in input units; 1.25·eps if None, as published (10/255 for 8/255).
        mode: of the model while it is attacked.
        drop: part of the best accuracy so far whose loss is taken for overfitting.
        sample: training examples that are looked at.
        restore: whether to end then, with the weights of the best epoch. Each rank has to hold whole weights.

    Raises:
        UserError: `restore` under a foreign loader or ZeRO-3.
    """

    paper = "Wong et al., Fast is better than free: Revisiting adversarial training, 2020, arXiv 2001.03994"
    provides: ClassVar[frozenset[str]] = frozenset({"attack"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd_at": {}}

    def __init__(
        self,
        step_size: Annotated[float, Gt(0)] | None = None,
        mode: Literal["eval", "train"] = "eval",
        drop: Annotated[float, Gt(0), Lt(1)] = 0.5,
        sample: Annotated[int, Ge(1)] = 512,
        restore: bool = False,
    ) -> None:
        super().__init__()
        self.step_size = step_size
        self.mode = mode
        self.drop = drop
        self.sample = sample
        self.restore = restore
        self._best = Good(0, 0.0)
        self._examples = 0  # of the training split, 0 where it cannot be looked at

    def passes(self) -> Passes:
        """The one gradient."""
        return Passes(forwards=1, input_backwards=1)

    def attack(self, batch: Batch, step: Step) -> Batch:
        """The batch with `x_adv` inside the threat."""
        size = 1.25 * step.threat.eps if self.step_size is None else self.step_size
        start = step.threat.start(batch.x, 2 * step.uniform(batch, batch.x, "start") - 1)
        with in_mode(step.model, self.mode):
            x_adv = pgd(step.inner(batch), batch.x, start, step.threat, steps=1, step_size=size)
        return batch.replace(x_adv=x_adv)

    def setup(self, task: Task, model: Classifier) -> None:
        """Room for the weights of the best epoch, where they are to be restored."""
        self._examples = task.num_train
        if not self.restore:
            return
        if not self._examples:
            raise UserError("fgsm_rs: restore=true looks at training examples, which a foreign loader gives once.")
        for name, value in model.state_dict().items():
            self.register_buffer(_buffer(name), value.detach().clone())
        self.per_rank = frozenset(_buffer(name) for name in statistics(model))

    def on_epoch_start(self, step: Step) -> None:
        """Refuse to keep weights that ranks share out."""
        if self.restore and any(hasattr(parameter, "ds_id") for parameter in step.model.parameters()):
            raise UserError("fgsm_rs: restore=true needs whole weights on each rank: use deepspeed_zero2 or ddp.")

    def on_epoch_trained(self, step: Step) -> None:
        """Look at the sample; where it has fallen, say so or go back."""
        if not self._examples:
            return
        look = Look.at(step, self._examples, self.sample)
        step.log("fgsm_rs/robust_accuracy", look.accuracy)
        step.log("fgsm_rs/gradient_alignment", look.alignment)
        if self._best.accuracy - look.accuracy > max(self.drop * self._best.accuracy, LEAST):
            self._fallen(step, look.accuracy)
        elif look.accuracy >= self._best.accuracy:
            self._best = Good(step.epoch + 1, look.accuracy)
            if self.restore:
                self._keep(step.model)

    def _fallen(self, step: Step, accuracy: float) -> None:
        best, self._best = self._best, Good(step.epoch + 1, accuracy)
        said = (
            f"fgsm_rs overfits to itself: PGD accuracy on training examples fell from {best.accuracy:.3f} after epoch "
            f"{best.epoch} to {accuracy:.3f} after epoch {step.epoch + 1}"
        )
        if self.restore:
            step.model.load_state_dict({name: self.get_buffer(_buffer(name)) for name in step.model.state_dict()})
            step.stop(f"{said}; the weights are those of epoch {best.epoch}")
        elif step.ranks.rank == 0:
            log.warning("%s: give recipe.fgsm_rs.restore=true, a smaller step or pgd", said)

    @torch.no_grad()
    def _keep(self, model: Classifier) -> None:
        for name, value in model.state_dict().items():
            self.get_buffer(_buffer(name)).copy_(value)

    def get_extra_state(self) -> dict[str, float]:
        """What later epochs are compared with."""
        return asdict(self._best)

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take up what was kept."""
        self._best = Good(**state)


def _buffer(name: str) -> str:
    """The name of a buffer, in which a dot may not stand."""
    return f"good/{name.replace('.', '/')}"
