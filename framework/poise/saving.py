"""When checkpoints are written, and which are kept."""

import logging
import math
from collections.abc import Iterable, Mapping
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
from poise.module import TrainingModule
from poise.shipping import shipped_state
from poise.stopping import Agreement, Requests
from poise.validation import LESS_IS_BETTER, NLL, validation_metrics

log = logging.getLogger("poise")

WEIGHTS = "weights.safetensors"


class Ending(Exception):
    """Ends the training, on all ranks after the same step; `number` is that of the signal which asked for it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Saver(Checkpoint):
    """Writes a checkpoint after each epoch's validation, every few steps, and where the run is asked to stop.

    It keeps the best epoch, the newest and the one before it: where the newest is damaged, the best may be far back.

    Args:
        root: directory of the run's checkpoints.
        selection: validation metric that tells which epoch is best.
        every: optimiser steps between two checkpoints inside an epoch; only at its end if None.
        requests: that the run stop; None where nobody can ask.
    """

    def __init__(self, root: Path, selection: str, every: int | None = None, requests: Requests | None = None) -> None:
        self.root, self.selection, self.every = root, selection, every
        self.agreement = Agreement(requests or Requests(told=False))

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remove what a run that was killed has left, once every rank knows where it goes on."""
        if trainer.ckpt_path and trainer.is_global_zero:
            _prune(self.root, Path(trainer.ckpt_path).parent)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        """Save inside an epoch, where asked to; not before its validation, which a resumed run would not do again."""
        stepped = (trainer.fit_loop.epoch_loop.batch_progress.current.ready % trainer.accumulate_grad_batches) == 0
        if not stepped or (isinstance(pl_module, TrainingModule) and pl_module.ends_epoch):
            return
        number = self.agreement.after(trainer.global_step, current_ranks())
        if number or (self.every and trainer.global_step % self.every == 0):
            self._save(trainer, pl_module, score=None)
        if number:
            raise Ending(number)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after the recipes have seen the epoch's metrics."""
        metrics = trainer.callback_metrics
        if self.selection not in metrics:
            raise UserError(f"selection={self.selection} is not among the validation metrics: {', '.join(metrics)}")
        self._save(trainer, pl_module, score=float(metrics[self.selection]))
        if number := self.agreement.now(trainer.global_step, current_ranks()):
            raise Ending(number)

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
            "metrics": {} if score is None else validation_metrics(trainer),
        }
        checkpoint.write(directory, ranks, save, module.rank_state(), facts)
        if ranks.rank == 0:
            _prune(self.root, directory)


def best(root: Path) -> Manifest | None:
    """The checkpoint of the best epoch; None where none was validated.

    It has the best score: the greatest, or where that is a loss the least. Of equal ones the lowest validation NLL
    decides, where it is noted, then the earliest epoch. Those that are damaged are logged and skipped.

    Raises:
        UserError: all of them are.
    """
    scored = _by_score(_all(root))
    for manifest in scored:
        try:
            return checkpoint.read(manifest.directory)
        except UserError as error:
            log.warning("%s Skipped.", error)
    if scored:
        raise UserError(f"no checkpoint of a validated epoch in {root} is whole: remove it, and the run begins again")
    return None


def any_left(root: Path) -> bool:
    """Whether checkpoints were written, whole ones or not."""
    return any(root.glob("step-*"))


def last_step(root: Path) -> int | None:
    """The highest step that a checkpoint says it is of; None without any."""
    return max((int(manifest.facts["step"]) for manifest in _all(root)), default=None)


def load_weights(manifest: Manifest, module: TrainingModule) -> None:
    """Put a whole checkpoint's evaluated weights, and its recipes' buffers, into a module that nothing wraps."""
    module.load_state_dict(load_file(manifest.directory / WEIGHTS), strict=False)


def rank_state(manifest: Manifest, ranks: Ranks) -> dict[str, Shaped[Tensor, "..."]]:
    """What differs by rank, for this rank; on another number of ranks the mean of all ranks' batch statistics."""
    if manifest.ranks == ranks.size:
        return checkpoint.rank_state(manifest, ranks.rank)
    first = checkpoint.rank_state(manifest, 0)
    if any(name.startswith("stack.") for name in first):
        log.warning("recipes' state that differs by rank starts afresh: %d ranks wrote it", manifest.ranks)
    kept = {name: value for name, value in first.items() if name.startswith("model.") and value.is_floating_point()}
    return _mean_of_all(manifest, kept, ranks) if kept else {}


def _mean_of_all(
    manifest: Manifest, like: Mapping[str, Shaped[Tensor, "..."]], ranks: Ranks
) -> dict[str, Shaped[Tensor, "..."]]:
    """The mean of what all ranks of a checkpoint kept under some names; each of those now reads its share of them."""
    total = torch.zeros(sum(value.numel() for value in like.values()), dtype=torch.float64)
    for rank in range(ranks.rank, manifest.ranks, ranks.size):
        state = checkpoint.rank_state(manifest, rank)
        total += torch.cat([state[name].flatten() for name in like])
    parts = (ranks.sum(total) / manifest.ranks).split([value.numel() for value in like.values()])
    return {n: part.view_as(value).to(value.dtype) for (n, value), part in zip(like.items(), parts, strict=True)}


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


def _by_score(manifests: Iterable[Manifest]) -> list[Manifest]:
    """Those of validated epochs, the best first."""
    scored = [manifest for manifest in manifests if manifest.facts["score"] is not None]
    return sorted(scored, key=_place)


def _place(manifest: Manifest) -> tuple[float, float, int]:
    """What is less for the better of two: by score, validation NLL and step; what is no number is worst."""
    facts = manifest.facts
    sign = 1 if facts["selection"] in LESS_IS_BETTER else -1
    score, nll = (
        math.inf if math.isnan(value) else value
        for value in (sign * facts["score"], facts.get("metrics", {}).get(NLL, math.inf))
    )
    return score, nll, facts["step"]


def _prune(root: Path, newest: Path) -> None:
    """Remove what is not kept. Later ones than the newest were damaged where the run was taken up: it makes them again.

    Nothing is read back, which would take as long as writing it: whether one is whole is looked at where it is used.
    """
    done = [manifest for manifest in _all(root) if manifest.directory.name <= newest.name]
    kept = {manifest.directory for manifest in (*done[-2:], *_by_score(done)[:1])}
    for path in root.glob("step-*"):
        if path not in kept:
            checkpoint.remove(path)
