"""What a person sees while a model trains."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar

log = logging.getLogger("poise")

MEANT = (
    r"You have overridden `on_before_batch_transfer`",  # the module checks what any loader yields
    r"The 'train_dataloader' does not have many workers",  # the data are in memory
    r"The 'val_dataloader' does not have many workers",
    r"It is recommended to use `self.log\(.*sync_dist=True\)`",  # validation metrics are computed over all ranks
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # small data have short epochs
    r".*broadcast_buffers",  # its successor is not in every PyTorch that poise takes
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


class EpochLog(Callback):
    """One line an epoch: to the log, and to the terminal where no bar is shown."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how the epoch went."""
        if trainer.global_rank:
            return
        values = "  ".join(f"{name}={float(value):.4g}" for name, value in trainer.callback_metrics.items())
        line = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {values}"
        log.info(line)
        if trainer.progress_bar_callback is None:
            print(line, file=sys.stderr, flush=True)


@contextmanager
def without_chatter() -> Iterator[None]:
    """Keep back what Lightning says of every run, and what it warns of that is meant so here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for meant in MEANT:
                warnings.filterwarnings("ignore", message=meant)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def progress_callback(shown: bool) -> list[Callback]:
    """The progress bar of the training, where a terminal can show it."""
    return [RichProgressBar(refresh_rate=5, leave=True)] if shown and sys.stderr.isatty() else []
