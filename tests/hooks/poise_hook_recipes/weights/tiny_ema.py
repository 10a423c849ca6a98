"""An exponential average of the weights."""

from typing import ClassVar

import torch
from torch import Tensor

from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step


class TinyEma(Recipe):
    """Validate and ship a ← b·a + (1-b)·θ, taken after each optimiser step, of each entry of the model's state.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992, with exponential
    weights.

    Args:
        decay: b in [0, 1).
    """

    paper = "Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992"
    needs: ClassVar[frozenset[str]] = frozenset({"whole_weights"})

    def __init__(self, decay: float = 0.9) -> None:
        super().__init__()
        self.decay = decay

    def setup(self, task: Task, model: Classifier) -> None:
        for name, value in model.state_dict().items():
            self.register_buffer(name.replace(".", "/"), value.clone())

    @torch.no_grad()
    def on_step_end(self, batch: Batch, step: Step) -> None:
        for name, value in step.model.state_dict().items():
            average = self.get_buffer(name.replace(".", "/"))
            if value.is_floating_point():
                average.lerp_(value, 1 - self.decay)
            else:
                average.copy_(value)

    def eval_weights(self) -> dict[str, Tensor]:
        return {name.replace("/", "."): value for name, value in self.named_buffers()}
