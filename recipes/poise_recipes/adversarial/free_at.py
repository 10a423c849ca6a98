"""Free adversarial training: one backward pass for the weights and for the attack."""

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from poise.attacks.threat import Threat
from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.recipe import Passes, Recipe, Task
from poise.step import Step


class FreeAT(Recipe):
    """Train on each batch m times in a row, and let the pass that trains the weights attack the next replay as well.

    Each slot of the batch, for inputs [B, *input], keeps a change δ across replays, batches and epochs. A step trains
    on x' = P(x + δ), P the projection into the valid range; then δ ← Π(δ + α·sign ∇ℓ(x')), Π the projection into the
    ball, with the gradient of the whole loss that the weights' step has used; under l2 and l1 the step is that of
    `Threat.direction`. A step costs what a plain one does: run a share 1/m of the epochs, for schedules count
    replays. Slot j is row j of the global batch, after mixing: where a recipe enlarges batches, a slot for each of
    their rows. Where no member has an objective it brings that of `pgd_at`. Memory: a batch of inputs on each rank.

    Source: Shafahi et al., Adversarial Training for Free!, 2019, arXiv 1904.12843, algorithm 1. Departures from the
    authors' code: the gradient is taken at x' itself, so δ also moves where the range has cut x + δ off; their clip
    lets no gradient through there. There is no incomplete last batch. A run taken up goes on with its δ, and on
    another number of ranks starts with δ = 0, as theirs always does. In the code of fast_adversarial the range is
    that of δ, which is clipped to it around the batch that it was found on, and x' = x + δ: so the first replay of
    the next batch may leave it.

    Args:
        replays: m, how often each batch is trained on.
        step_size: α, in input units; eps if None, as published.
    """

    paper = "Shafahi et al., Adversarial Training for Free!, 2019, arXiv 1904.12843"
    provides: ClassVar[frozenset[str]] = frozenset({"attack"})
    needs: ClassVar[frozenset[str]] = frozenset({"whole_batch"})
    brings: ClassVar[dict[str, dict[str, str]]] = {"pgd_at": {}}
    per_rank: frozenset[str] = frozenset({"delta"})
    delta: Tensor

    def __init__(self, replays: Annotated[int, Ge(1)] = 8, step_size: Annotated[float, Gt(0)] | None = None) -> None:
        super().__init__()
        self.replays = replays
        self.step_size = step_size

    def passes(self) -> Passes:
        """None beyond those of a plain step."""
        return Passes()

    def setup(self, task: Task, model: Classifier) -> None:
        """No change yet: a task tells neither the shape of an input nor the rows of a batch, the first batch does."""
        self.register_buffer("delta", torch.zeros(0), persistent=False)

    def attack(self, batch: Batch, step: Step) -> Batch:
        """The batch with `x_adv`, a leaf whose gradient the backward pass fills."""
        if self.delta.shape != batch.x.shape:
            self.delta = torch.zeros_like(batch.x)
        delta = self.delta.to(batch.x.dtype)
        return batch.replace(x_adv=step.threat.project(batch.x + delta, batch.x).requires_grad_())

    @torch.no_grad()
    def on_step_end(self, batch: Batch, step: Step) -> None:
        """One step of each slot's change."""
        gradient = batch.attacked.grad
        if gradient is None:
            raise ValueError("the loss did not depend on x_adv")
        size = step.threat.eps if self.step_size is None else self.step_size
        self.delta = moved(self.delta.to(gradient.dtype), gradient, step.threat, size)


def moved(
    delta: Float[Tensor, "B *input"], gradient: Float[Tensor, "B *input"], threat: Threat, size: float
) -> Float[Tensor, "B *input"]:
    """Changes after one step up the gradient, inside the threat's ball and whatever its range."""
    ball = replace(threat, low=None, high=None)
    return ball.project(ball.ascend(delta, gradient, size), torch.zeros_like(delta))
