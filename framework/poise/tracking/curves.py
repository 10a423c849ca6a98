"""Training curves: what a run logs, every so many steps and after each validation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from poise.module import TrainingModule
from poise.tracking.facts import name_of
from poise.validation import validation_metrics

Write = Callable[[Mapping[str, float], int], None]  # takes values by name, and the number of optimiser steps done


class Curves(Callback):
    """Gives what the module logs to functions, on the rank that writes.

    A callback that comes before the one that saves, and no logger: Lightning calls loggers after it has saved, so a
    run killed in between would go on behind a step that nobody has noted.

    Args:
        writes: each is given all values.
        every: optimiser steps between two points.
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
        if step % self._every == 0 and step != self._written:
            self._written = step
            self._pass_on(trainer, pl_module.logged if isinstance(pl_module, TrainingModule) else {})

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pass on the values of the whole split."""
        self._pass_on(trainer, validation_metrics(trainer))

    def _pass_on(self, trainer: L.Trainer, logged: Mapping[str, float]) -> None:
        if trainer.global_rank:
            return
        values = {self._name(name): value for name, value in logged.items()}
        for write in self._writes:
            write(values | {"epoch": float(trainer.current_epoch)}, trainer.global_step)

    def _name(self, name: str) -> str:
        if name not in self._names:
            self._names[name] = name_of(name)
        return self._names[name]
