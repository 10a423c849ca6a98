"""Projected gradient descent as a step of training."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor, nn

from poise.attacks.pgd import pgd
from poise.batch import Batch
from poise.modes import in_mode
from poise.recipe import Passes, Recipe
from poise.step import Step


class PGD(Recipe):
    """Attack every batch by projected gradient ascent on the stack's inner loss.

    Inputs and `x_adv` are [B, *input] in the valid range. `kappa`, the share of iterates that were still classified
    as the target's most likely class, is read off the logits of the inner loss's own passes and costs no pass.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083.
    Departures: the model attacks itself in evaluation mode (Pang et al., Bag of Tricks for Adversarial Training,
    2021, arXiv 2010.00467), where the Rice et al. code keeps batch norm in training mode; `mode` restores it. The
    normal start is clipped into the ball and the range, which the code of TRADES does not do before the first step.

    Args:
        steps: gradient steps.
        step_size: of each step, in input units; 2.5·eps/steps if None (2/255 for 8/255 in 10 steps).
        start: uniform in the ball; normal: 0.001·N(0, I), as TRADES; none: the input itself.
        mode: of the model while it is attacked.
    """

    paper = "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083"
    provides: ClassVar[frozenset[str]] = frozenset({"attack", "kappa"})

    def __init__(
        self,
        steps: Annotated[int, Ge(1)] = 10,
        step_size: Annotated[float, Gt(0)] | None = None,
        start: Literal["uniform", "normal", "none"] = "uniform",
        mode: Literal["eval", "train"] = "eval",
    ) -> None:
        super().__init__()
        self.steps = steps
        self.step_size = step_size
        self.start = start
        self.mode = mode

    def passes(self) -> Passes:
        """One forward and one input backward a step."""
        return Passes(forwards=self.steps, input_backwards=self.steps)

    def attack(self, batch: Batch, step: Step) -> Batch:
        """The batch with `x_adv` inside the threat, and `kappa`."""
        size = 2.5 * step.threat.eps / max(self.steps, 1) if self.step_size is None else self.step_size
        with in_mode(step.model, self.mode):
            loss = step.inner(batch)
            with _heard(step.model) as logits:
                x_adv = pgd(loss, batch.x, self._begin(batch, step), step.threat, self.steps, size)
        return batch.replace(x_adv=x_adv, kappa=_hits(logits, batch.target) if logits else None)

    def _begin(self, batch: Batch, step: Step) -> Float[Tensor, "B *input"]:
        if self.start == "none":
            return batch.x
        if self.start == "normal":
            return step.threat.project(batch.x + 0.001 * step.normal(batch, batch.x, "start"), batch.x)
        return step.threat.start(batch.x, 2 * step.uniform(batch, batch.x, "start") - 1)


@contextmanager
def _heard(model: nn.Module) -> Iterator[list[Tensor]]:
    """The logits [B, C] of each pass of the model meanwhile."""
    heard: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, inputs, logits: heard.append(logits.detach()))
    try:
        yield heard
    finally:
        handle.remove()


def _hits(logits: Sequence[Float[Tensor, "B C"]], target: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """In what share of the passes each row was classified as the target's most likely class."""
    return (torch.stack(list(logits)).argmax(-1) == target.argmax(-1)).to(target.dtype).mean(0)
