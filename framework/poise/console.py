"""What a person sees while a model trains."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L

from poise.listener import Listener
from poise.progress import RunBar

log = logging.getLogger("poise")

MEANT = (
    r"You have overridden `on_before_batch_transfer`",  # the module checks what any loader yields
    r"The 'train_dataloader' does not have many workers",  # the data are in memory
    r"The 'val_dataloader' does not have many workers",
    r"It is recommended to use `self.log\(.*sync_dist=True\)`",  # validation metrics are computed over all ranks
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # small data have short epochs
    r".*broadcast_buffers",  # its successor is not in every PyTorch that poise takes
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"Grad strides do not match bucket view strides",  # pictures' channels lie last in memory, and weights' do not
    r"GPU available but not used",  # trainer.accelerator=cpu says so
    r"TensorFloat32 tensor cores for float32 matrix multiplication",  # 32-true means it; bf16-mixed is what is faster
    r"The `srun` command is available on your system but is not used",  # a run on this machine, where Slurm is as well
)
EVALUATING = r"Found \d+ module\(s\) in eval mode at the start of training"  # meant so of frozen parts


class Telling(Listener):
    """What a person sees of a training: a bar for the whole run where a terminal can show it, and a line an epoch.

    Args:
        bar: whether there may be a bar.
    """

    def __init__(self, bar: bool) -> None:
        self.bar = RunBar() if bar and sys.stderr.isatty() else None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the bar, from where a run is taken up."""
        if self.bar and trainer.global_rank == 0:
            self.bar.start(trainer.global_step, int(trainer.estimated_stepping_batches))

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Move the bar, not more often than eyes follow: to read a loss is to wait for the device."""
        if self.bar and self.bar.due():
            loss = trainer.callback_metrics.get("train/loss")
            told = "" if loss is None else f"loss {float(loss):.3g}"
            self.bar.move(trainer.global_step, f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", told)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how the epoch went."""
        if trainer.global_rank:
            return
        values = "  ".join(f"{name}={float(value):.4g}" for name, value in trainer.callback_metrics.items())
        line = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}"
        log.info(line)
        print(line, file=sys.stderr, flush=True)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the bar away."""
        if self.bar:
            self.bar.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Take the bar away before anything is said of what went wrong."""
        if self.bar:
            self.bar.stop()


@contextmanager
def without_chatter(*further: str) -> Iterator[None]:
    """Keep back what Lightning says of every run, and what it warns of that is meant so here.

    Args:
        further: how warnings begin that are meant so in this run alone.
    """
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for meant in (*MEANT, *further):
                warnings.filterwarnings("ignore", message=meant)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
