"""An exponential moving average of the weights."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from jaxtyping import Shaped
from torch import Tensor

from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.shipping import statistics
from poise.step import Step


class EMA(Recipe):
    """Validate and ship an average of the weights: a ← b·a + (1 - b)·θ after each optimiser step.

    Every floating entry of the model's state is averaged by one rule, batch norm's running statistics as well, so
    that they are about those of the averaged network; counts are copied. Training itself, on batches [B, *input],
    goes on with θ and does not change. The average starts at the initial weights, which `warmup` makes it forget:
    step t, from 0, has the decay min(b, (1 + t)/(1 + w + t)).

    Source: Gowal et al., Uncovering the Limits of Adversarial Training against Norm-Bounded Adversarial Examples,
    2020, arXiv 2010.03593; the warm-up with w = 9 is that of `num_updates` in TensorFlow's ExponentialMovingAverage.
    Departures: none in the average of the weights; some PyTorch code copies the running statistics of θ.

    Args:
        decay: b. 0.995 is that of the paper for robust training; it remembers about 1/(1 - b) steps.
        warmup: w, in steps; 0 for none.
    """

    paper = (
        "Gowal et al., Uncovering the Limits of Adversarial Training against Norm-Bounded Adversarial Examples, 2020, "
        "arXiv 2010.03593"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"whole_weights"})

    def __init__(self, decay: Annotated[float, Ge(0), Lt(1)] = 0.995, warmup: Annotated[float, Ge(0)] = 9.0) -> None:
        super().__init__()
        self.decay = decay
        self.warmup = warmup

    def setup(self, task: Task, model: Classifier) -> None:
        """A copy of the model's state; batch statistics differ by rank, and so do their averages."""
        for name, value in model.state_dict().items():
            self.register_buffer(_buffer(name), value.detach().clone())
        self.per_rank = frozenset(_buffer(name) for name in statistics(model))

    def on_step_end(self, batch: Batch, step: Step) -> None:
        """One step of the average."""
        averages = dict(self.named_buffers())
        state = {_buffer(name): value for name, value in step.model.state_dict().items()}
        follow(averages, state, decay_at(step.global_step, self.decay, self.warmup))

    def eval_weights(self) -> dict[str, Shaped[Tensor, "..."]]:
        """The averages, by name in the model's state."""
        return {name.replace("/", "."): value for name, value in self.named_buffers()}


def decay_at(step: int, decay: float, warmup: float) -> float:
    """min(decay, (1 + step)/(1 + warmup + step)), for steps from 0."""
    return min(decay, (1 + step) / (1 + warmup + step))


@torch.no_grad()
def follow(
    averages: Mapping[str, Shaped[Tensor, "..."]], state: Mapping[str, Shaped[Tensor, "..."]], decay: float
) -> None:
    """Bring averages 1 - decay of the way to a state, in place and in few kernels; what is no float is copied."""
    floating = [name for name, value in state.items() if value.is_floating_point()]
    torch._foreach_lerp_([averages[name] for name in floating], [state[name] for name in floating], 1 - decay)
    if counts := [name for name, value in state.items() if not value.is_floating_point()]:
        torch._foreach_copy_([averages[name] for name in counts], [state[name] for name in counts])


def _buffer(name: str) -> str:
    """The name of a buffer, in which a dot may not stand."""
    return name.replace(".", "/")
