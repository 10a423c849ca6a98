"""When checkpoints are written, and which are kept."""

import logging
import shutil
from pathlib import Path

import lightning as L
import torch
from jaxtyping import Shaped
from lightning.pytorch.callbacks import Checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor

from poise import checkpoint
from poise.checkpoint import Manifest
from poise.distributed import Ranks, current_ranks, full_state
from poise.errors import UserError
from poise.module import TrainingModule, validation_metrics
from poise.shipping import shipped_state

log = logging.getLogger("poise")

WEIGHTS = "weights.safetensors"


class Saver(Checkpoint):
    """Writes a checkpoint after each epoch's validation and every few steps; keeps the best epoch and the newest.

    Args:
        root: directory of the run's checkpoints.
        selection: validation metric whose greatest value is best.
        every: optimiser steps between two checkpoints inside an epoch; only at its end if None.
    """

    def __init__(self, root: Path, selection: str, every: int | None = None) -> None:
        self.root, self.selection, self.every = root, selection, every

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Save inside an epoch, where asked to; not before its validation, which a resumed run would not do again."""
        stepped = (trainer.fit_loop.epoch_loop.batch_progress.current.ready % trainer.accumulate_grad_batches) == 0
        if self.every and stepped and trainer.global_step % self.every == 0 and not trainer.is_last_batch:
            self._save(trainer, pl_module, score=None)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after the recipes have seen the epoch's metrics."""
        metrics = trainer.callback_metrics
        if self.selection not in metrics:
            raise UserError(f"selection={self.selection} is not among the validation metrics: {', '.join(metrics)}")
        self._save(trainer, pl_module, score=float(metrics[self.selection]))

    def _save(self, trainer: L.Trainer, module: L.LightningModule, score: float | None) -> None:
        if not isinstance(module, TrainingModule):
            raise TypeError("Saver saves a TrainingModule")
        ranks = current_ranks()
        module.watch.look(ranks)
        state = _evaluated_state(trainer, module, ranks)
        directory = _directory(self.root, trainer.global_step)

        def save(path: Path) -> None:
            trainer.save_checkpoint(path, weights_only=False)
            if ranks.rank == 0:
                save_file(state, path.parent / WEIGHTS)

        facts = {
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "score": score,
            "selection": self.selection,
            "metrics": validation_metrics(trainer),
        }
        checkpoint.write(directory, ranks, save, module.rank_state(), facts)
        if ranks.rank == 0:
            _prune(self.root)


def best(root: Path) -> Manifest | None:
    """The checkpoint of the best epoch: the greatest score, the earliest of equals."""
    scored = [manifest for manifest in _all(root) if manifest.facts["score"] is not None]
    return max(scored, key=lambda m: (m.facts["score"], -m.facts["step"]), default=None)


def load_weights(manifest: Manifest, module: TrainingModule) -> None:
    """Put a checkpoint's evaluated weights, and its recipes' buffers, into a module that nothing wraps.

    Raises:
        UserError: the checkpoint is damaged.
    """
    checkpoint.read(manifest.directory)
    module.load_state_dict(load_file(manifest.directory / WEIGHTS), strict=False)


def rank_state(manifest: Manifest, ranks: Ranks) -> dict[str, Shaped[Tensor, "..."]]:
    """What differs by rank, for this rank; on another number of ranks the mean of all ranks' batch statistics."""
    if manifest.ranks == ranks.size:
        return checkpoint.rank_state(manifest, ranks.rank)
    if any(name.startswith("stack.") for name in checkpoint.rank_state(manifest, 0)):
        log.warning("recipes' state that differs by rank starts afresh: %d ranks wrote it", manifest.ranks)
    states = [checkpoint.rank_state(manifest, rank) for rank in range(manifest.ranks)]
    shared = [name for name, value in states[0].items() if name.startswith("model.") and value.is_floating_point()]
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in shared}


def _evaluated_state(trainer: L.Trainer, module: TrainingModule, ranks: Ranks) -> dict[str, Shaped[Tensor, "..."]]:
    state = full_state(trainer, module)
    shipped = shipped_state(module.model, module.stack, ranks) or {}
    state |= {f"model.{name}": value.detach().cpu() for name, value in shipped.items()}
    return {name: value.contiguous().clone() for name, value in state.items()}


def _directory(root: Path, step: int) -> Path:
    return root / f"step-{step:08d}"


def _all(root: Path) -> list[Manifest]:
    """The whole checkpoints, oldest first."""
    found = (checkpoint.glance(path) for path in sorted(root.glob("step-*")) if path.is_dir())
    return [manifest for manifest in found if manifest is not None]


def _prune(root: Path) -> None:
    kept = {manifest.directory for manifest in (best(root), checkpoint.newest(root)) if manifest}
    for path in root.glob("step-*"):
        if path not in kept:
            shutil.rmtree(path)
