"""Loaders: whole batches at once, no worker processes, no draw from a global generator."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from poise.data.dataset import Arrays
from poise.data.prefetch import fetched
from poise.data.sampler import EpochSampler, Rows
from poise.errors import UserError


class TrainLoader:
    """Batches in a sampler's order.

    Its position in an epoch is the sampler's, taken from the trainer's own counters, so there is nothing to
    fast forward on resume; its state only says which order a checkpoint was made under.

    Args:
        data: the training split.
        sampler: which rows come when.
        streams: the data sets for whose rows the sampler also asks; given as batch['streams'][name].
    """

    def __init__(self, data: Arrays, sampler: EpochSampler, streams: Mapping[str, Arrays] | None = None) -> None:
        self.data, self.sampler, self.streams = data, sampler, dict(streams or {})

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return fetched(self._batch, self.sampler, [self.data, *self.streams.values()])

    def _batch(self, rows: Rows) -> dict[str, Any]:
        batch: dict[str, Any] = self.data.fetch(rows.train)
        if self.streams:
            batch["streams"] = {name: data.fetch(rows.streams[name]) for name, data in self.streams.items()}
        return batch

    def state_dict(self) -> dict[str, int]:
        """What the order of examples and the meaning of a position depend on, but for the ranks."""
        names = ("size", "batch_size", "micro_batches", "seed", "replays")
        return {name: int(getattr(self.sampler, name)) for name in names}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Refuses a checkpoint made under another order.

        Raises:
            UserError: names what differs.
        """
        mine = self.state_dict()
        changed = [f"{name} was {state[name]} and is {mine[name]}" for name in mine if state[name] != mine[name]]
        if changed:
            raise UserError(f"the checkpoint's data order cannot be continued: {', '.join(changed)}.")


class EvaluationLoader:
    """Every example of a split exactly once over the ranks: rank r has positions r, r + R, …, no padding.

    All ranks give the same number of batches, none of them empty, so that collectives inside a step stay in
    step. Each batch has `position`, its rows' places in the split.

    Args:
        data: the split.
        batch_size: rows of one rank's batch, at most (one more where ranks would otherwise have none).
        ranks: R.
        rank: r.

    Raises:
        UserError: fewer examples than ranks.
    """

    def __init__(self, data: Arrays, batch_size: int, ranks: int = 1, rank: int = 0) -> None:
        if batch_size < 1:
            raise UserError(f"an evaluation batch size of {batch_size} must be 1 or more.")
        if len(data) < ranks:
            raise UserError(f"a split of {len(data)} examples cannot be shared by {ranks} ranks: use fewer ranks.")
        self.data = data
        self.positions = torch.arange(rank, len(data), ranks)
        batches = math.ceil(math.ceil(len(data) / ranks) / batch_size)
        self.batches = min(batches, len(data) // ranks)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return fetched(self._batch, self.positions.tensor_split(self.batches), [self.data])

    def _batch(self, positions: Int[Tensor, " B"]) -> dict[str, Tensor]:
        return {**self.data.fetch(positions), "position": positions}
