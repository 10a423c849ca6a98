"""The fast gradient sign method from a random start, as a step of training."""

from typing import Annotated, ClassVar, Literal

from annotated_types import Gt

from poise.attacks.pgd import pgd
from poise.batch import Batch
from poise.modes import in_mode
from poise.recipe import Passes, Recipe
from poise.step import Step


class FGSMRS(Recipe):
    """Attack every batch by one gradient step from a random start: x' = P(x₀ + α·sign ∇ℓ(x₀)), x₀ uniform in the ball.

    Inputs and `x_adv` are [B, *input] in the valid range, P projects into ball and range, ℓ is the stack's inner
    loss; under an l2 threat the step follows the normalised gradient. For the price of one gradient it comes near
    `pgd`, until it overfits to itself: watch `val/robust_accuracy`, for which PGD attacks. Where no member has an
    objective it brings that of `pgd_at`, which trains on `x_adv`; `trades` and others take it in place of `pgd`.

    Source: Wong et al., Fast is better than free: Revisiting adversarial training, 2020, arXiv 2001.03994,
    algorithm 3. Departures from the authors' code: the model attacks itself in evaluation mode, as in `pgd`, where
    theirs keeps batch norm in training mode; `mode` restores it. Each value starts uniformly in its own ball; theirs
    takes the upper end of every channel from the first one. They stop when PGD accuracy on a batch falls by a fifth
    between epochs; here the epoch is chosen by validation.

    Args:
        step_size: α, in input units; 1.25·eps if None, as published (10/255 for 8/255).
        mode: of the model while it is attacked.
    """

    paper = "Wong et al., Fast is better than free: Revisiting adversarial training, 2020, arXiv 2001.03994"
    provides: ClassVar[frozenset[str]] = frozenset({"attack"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd_at": {}}

    def __init__(
        self, step_size: Annotated[float, Gt(0)] | None = None, mode: Literal["eval", "train"] = "eval"
    ) -> None:
        super().__init__()
        self.step_size = step_size
        self.mode = mode

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
