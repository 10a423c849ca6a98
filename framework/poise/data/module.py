"""The data of a run, as Lightning wants them."""

from collections.abc import Callable, Sequence

import lightning as L
from torch import Tensor

from poise.data.blocks import check_sizes, default_block
from poise.data.dataset import Arrays, Splits
from poise.data.loader import EvaluationLoader, TrainLoader
from poise.data.sampler import EpochSampler
from poise.errors import UserError, nearest


class DataModule(L.LightningDataModule):
    """Loaders for a run; the trainer needs `use_distributed_sampler=False`.

    Resuming in mid-epoch continues with the example that comes next, also on another number of ranks.

    Args:
        splits: the data.
        batch_size: examples of one optimiser step, over ranks and micro-batches.
        accumulate: micro-batches of one optimiser step.
        seed: keys the order of examples.
        replays: how often each micro-batch comes, in a row.
        weights: epoch -> sample weights [N] or None, see `poise.data.order.epoch_order`.
        streams: names of the splits' streams that training batches carry; None for all.
        block: consecutive examples that stay on one rank; None for the largest of 16, 8, 4, 2, 1 that fits.
        eval_batch_size: rows of one rank's batch in evaluation.
    """

    def __init__(
        self,
        splits: Splits,
        batch_size: int,
        accumulate: int = 1,
        seed: int = 0,
        replays: int = 1,
        weights: Callable[[int], Tensor | None] | None = None,
        streams: Sequence[str] | None = None,
        block: int | None = None,
        eval_batch_size: int = 256,
    ) -> None:
        super().__init__()
        self.splits, self.batch_size, self.accumulate = splits, batch_size, accumulate
        self.seed, self.replays, self.weights = seed, replays, weights
        self.streams = _chosen(splits, streams)
        self.block = default_block(batch_size) if block is None else block
        self.eval_batch_size = eval_batch_size

    def train_dataloader(self) -> TrainLoader:
        """Batches as dicts of x, label, index and, where the data have them, group and streams."""
        ranks, rank = self._ranks()
        check_sizes(self.batch_size, ranks, self.accumulate, self.block)
        sampler = EpochSampler(
            size=len(self.splits.train),
            batch_size=self.batch_size,
            micro_batches=self.accumulate,
            ranks=ranks,
            rank=rank,
            seed=self.seed,
            replays=self.replays,
            weights=self.weights,
            position=None if self.trainer is None else self._position,
            streams={name: len(data) for name, data in self.streams.items()},
        )
        return TrainLoader(self.splits.train, sampler, self.streams)

    def val_dataloader(self) -> EvaluationLoader:
        """The validation split."""
        return self.evaluation_loader("val")

    def evaluation_loader(self, split: str) -> EvaluationLoader:
        """One of the four splits, a shift ('shifts.NAME') or an OOD set ('ood.NAME'), each row once.

        Raises:
            UserError: no such split.
        """
        known = {**self.splits.main, **self.splits.further}
        if split not in known:
            raise UserError(f"there is no split {split!r}, only {', '.join(known)}.{nearest(split, known)}")
        ranks, rank = self._ranks()
        return EvaluationLoader(known[split], self.eval_batch_size, ranks, rank)

    def _ranks(self) -> tuple[int, int]:
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _position(self) -> tuple[int, int]:
        """Epoch and micro-batches done in it; right from the reset of the epoch's loop to its first batch."""
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready


def _chosen(splits: Splits, names: Sequence[str] | None) -> dict[str, Arrays]:
    if names is None:
        return dict(splits.streams)
    for name in names:
        if name not in splits.streams:
            raise UserError(f"the data have no stream {name!r}.{nearest(name, splits.streams)}")
    return {name: splits.streams[name] for name in names}
