"""Training curves: what a run logs, every so many steps and at each epoch's end."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L

from poise.listener import Listener
from poise.module import TrainingModule
from poise.tracking.facts import name_of
from poise.validation import validation_metrics

Write = Callable[[Mapping[str, float], int], None]  # takes values by name, and the number of optimiser steps done


class Curves(Listener):
    """Gives what the module logs to functions, on the rank that writes: a point for each step that is due.

    An epoch's last step has its point when the epoch is over, with what is found after it: the validation's metrics,
    and what recipes log then. No step has two points, and no value a second one. `epoch` counts from 1, as
    wherever people see it.

    A callback that comes before the one that saves, and no logger: Lightning calls loggers after it has saved, so a
    run killed in between would go on behind a step that nobody has noted.

    Args:
        writes: each is given all values.
        every: optimiser steps between two points inside an epoch.
    """

    def __init__(self, writes: Sequence[Write], every: int) -> None:
        self._writes, self._every = writes, every
        self._written = 0
        self._names: dict[str, str] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The step at which a run is taken up has been passed on."""
        self._written = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Pass on the values of a step that is due; once, where several micro-batches make it."""
        step = trainer.global_step
        if step % self._every == 0 and step != self._written and not _module(pl_module).ends_epoch:
            self._written = step
            self._pass_on(trainer, _module(pl_module), {})

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pass on the values of the epoch's last step, with those of the whole validation split."""
        self._written = trainer.global_step
        self._pass_on(trainer, _module(pl_module), validation_metrics(trainer))

    def _pass_on(self, trainer: L.Trainer, module: TrainingModule, validated: Mapping[str, float]) -> None:
        if trainer.global_rank:
            return
        values = {self._name(name): value for name, value in {**module.read_logged(), **validated}.items()}
        for write in self._writes:
            write(values | {"epoch": float(trainer.current_epoch + 1)}, trainer.global_step)

    def _name(self, name: str) -> str:
        if name not in self._names:
            self._names[name] = name_of(name)
        return self._names[name]


def _module(module: L.LightningModule) -> TrainingModule:
    if not isinstance(module, TrainingModule):
        raise TypeError("Curves are those of a TrainingModule")
    return module
