"""A step, in the order that the training module has, with a look at what is alive."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from poise.batch import Batch
from poise.config import Config
from poise.distributed import Ranks
from poise.module import TrainingModule
from poise.parameter_groups import optimizer_over, parameter_groups
from poise.planning.meters import LiveBytes, Worked, bytes_of
from poise.precision import keep_casts
from poise.step import Step


@dataclass(frozen=True)
class Sizes:
    """What a rank holds through the whole of its training, in bytes, where nothing is shared out.

    Args:
        trained: of each trained parameter, in the optimiser's order.
        frozen: of parameters that are not trained.
        buffers: of the model's buffers.
        recipes: of recipes' buffers: averages, tables.
        optimizer: of the optimiser's state.
    """

    trained: tuple[int, ...]
    frozen: int
    buffers: int
    recipes: int
    optimizer: int

    @property
    def gradients(self) -> int:
        """Bytes of the gradients, or of the trained parameters."""
        return sum(self.trained)

    @property
    def kept(self) -> int:
        """Bytes of what no strategy shares out."""
        return self.frozen + self.buffers + self.recipes


@dataclass(frozen=True)
class Peaks:
    """The most that is alive beside `Sizes`, in bytes, where every rank holds everything.

    Args:
        kept: of the batch before, which the module keeps until the next one is made.
        forward: until the loss's gradient is asked for: activations, attacks, and changes of weights.
        backward: meanwhile, beside the gradients of parameters.
        backward_whole: meanwhile, those gradients included.
        update: while the optimiser steps.
    """

    kept: int
    forward: int
    backward: int
    backward_whole: int
    update: int


class Stage:
    """Where one step of a module is made.

    Args:
        config: of the run.
        module: prepared, of tensors without values.
    """

    def __init__(self, config: Config, module: TrainingModule) -> None:
        self.module = module
        self.precision = config.trainer.precision
        self.accumulates = config.trainer.accumulate > 1
        self.trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = parameter_groups(module.model, self.trained, module.grouping)
        self.optimizer = optimizer_over(module.optimizer, groups)
        if config.trainer.accelerator != "cpu":
            _step_as_on_gpus(self.optimizer)
        self.live = LiveBytes()
        for tensor in (*module.parameters(), *module.buffers()):
            self.live.see(tensor)
        self._step_before()

    @property
    def sizes(self) -> Sizes:
        """What is held throughout."""
        model = self.module.model
        return Sizes(
            trained=tuple(map(bytes_of, self.trained)),
            frozen=sum(bytes_of(p) for p in self.module.parameters() if not p.requires_grad),
            buffers=sum(map(bytes_of, model.buffers())),
            recipes=sum(map(bytes_of, self.module.buffers())) - sum(map(bytes_of, model.buffers())),
            optimizer=sum(map(bytes_of, _tensors(list(self.optimizer.state.values())))),
        )

    def step(self, record: dict[str, Any], ranks: Ranks, worked: Worked) -> Peaks:
        """One step of one micro-batch."""
        live, module, sizes = self.live, self.module, self.sizes
        held = sizes.gradients + sizes.kept + sizes.optimizer
        module.train()
        for tensor in _tensors(record):
            live.see(tensor)
        with live, worked, live.telling_gradients(self.trained):
            live.restart()
            value, restore, batch, step = self._forward(record, ranks)
            forward = live.peak_beside - held
            self.optimizer.zero_grad()
            live.gradients = 0
            live.restart()
            value.backward()
            restore()
            del value, restore
            backward, whole = live.peak_beside - held, live.peak - held
            live.restart()
            self.optimizer.step()
            update = live.peak_beside - held
            module.stack.on_step_end(batch, step)
        kept = live.live - live.gradients - held - sum(map(bytes_of, _tensors(record)))
        if self.accumulates:
            whole = backward + sizes.gradients
        return Peaks(kept, forward + kept, backward + kept, whole + kept, update + kept)

    def _step_before(self) -> None:
        """What a step leaves to the next: gradients, and the optimiser's state."""
        with self.live:
            for parameter in self.trained:
                parameter.grad = torch.empty_like(parameter)
            self.optimizer.step()
        self.live.gradients = self.sizes.gradients

    def _forward(self, record: dict[str, Any], ranks: Ranks) -> tuple[Tensor, Callable[[], None], Batch, Step]:
        """The loss of a micro-batch, with what takes perturbed weights back."""
        module, stack = self.module, self.module.stack
        step = module.detached_step(ranks)
        with self._precision():
            keep_casts()
            batch = stack.mix(module.augmented(module.receive(record), step), step)
            batch = stack.attack(batch, step)
            loss = stack.loss(batch, step)
            restore = stack.perturb_weights(loss, step)
            return loss(), restore, batch, step

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16-mixed" else nullcontext()


def _step_as_on_gpus(optimizer: Optimizer) -> None:
    """PyTorch's optimisers update all parameters at once on GPUs, which takes memory, and one by one on CPUs."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None:
            group["foreach"] = True


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
