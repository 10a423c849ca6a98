"""Free adversarial training."""

from typing import ClassVar

import torch
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step


class TinyFree(Recipe):
    """Replay each batch and let the backward pass that trains the weights move the change δ [B, *input] as well.

    Each rank keeps a δ for each of its batch positions, from batch to batch: it is per rank.

    Source: Shafahi et al., Adversarial Training for Free!, 2019, arXiv 1904.12843. For linf threats.

    Args:
        replays: m, how often each batch is trained on.
    """

    paper = "Shafahi et al., Adversarial Training for Free!, 2019, arXiv 1904.12843"
    provides: ClassVar[frozenset[str]] = frozenset({"attack"})
    needs: ClassVar[frozenset[str]] = frozenset({"whole_batch"})
    conflicts: ClassVar[frozenset[str]] = frozenset({"resized"})
    per_rank: frozenset[str] = frozenset({"delta"})
    delta: Tensor

    def __init__(self, replays: int = 2) -> None:
        super().__init__()
        self.replays = replays

    def setup(self, task: Task, model: Classifier) -> None:
        # a task tells neither the shape of an input nor the rows of a batch: the first attack makes it full-size
        self.register_buffer("delta", torch.zeros(0), persistent=False)

    def attack(self, batch: Batch, step: Step) -> Batch:
        if self.delta.shape != batch.x.shape:
            self.delta = torch.zeros_like(batch.x)
        return batch.replace(x_adv=step.threat.project(batch.x + self.delta, batch.x).requires_grad_())

    def objective(self, batch: Batch, step: Step) -> Outcome:
        adv = step.forward(batch.attacked, batch)
        return Outcome(step.loss(adv.logits, batch), adv=adv)

    @torch.no_grad()
    def on_step_end(self, batch: Batch, step: Step) -> None:
        if batch.x_adv is None or batch.x_adv.grad is None:
            raise ValueError("the loss did not depend on x_adv")
        eps = step.threat.eps
        self.delta = (self.delta + eps * batch.x_adv.grad.sign()).clamp(-eps, eps)
