"""The order of training: the same examples in the same steps on any cluster, from any point on."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Sampler

from poise.data.blocks import check_sizes
from poise.data.order import StreamOrder, epoch_order, epoch_size
from poise.errors import UserError


class Rows(NamedTuple):
    """Which examples one rank sees in one micro-batch: of the training set [n], and of each stream [n]."""

    train: Int[Tensor, " B"]
    streams: dict[str, Int[Tensor, " B"]]


class EpochSampler(Sampler[Rows]):
    """Micro-batches of one rank; each iteration is one epoch.

    Micro-batch m of optimiser step k on rank r of R holds the n = batch_size / (micro_batches * R) rows from
    k * batch_size + (m * R + r) * n of the epoch's order, which is keyed by (seed, epoch) alone. The last,
    short batch of an epoch is dropped. A stream's rows are counted over the whole run: row p of the run's
    order comes with row p of the stream's.

    Args:
        size: N, examples in the training set.
        batch_size: examples of one optimiser step, over ranks and micro-batches.
        micro_batches: micro-batches of one optimiser step (gradient accumulation).
        ranks: R.
        rank: r.
        seed: of the run.
        replays: how often each micro-batch comes, in a row.
        weights: epoch -> sample weights [N] or None, see `epoch_order`; the number of steps must stay the
            same.
        position: -> (epoch, first micro-batch in it, replays counted); asked when the first micro-batch of an
            iteration is. None: epochs are counted from 0, one an iteration.
        streams: name -> size of each further data set.

    Raises:
        UserError: sizes that do not fit, fewer examples than one batch.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        micro_batches: int = 1,
        ranks: int = 1,
        rank: int = 0,
        seed: int = 0,
        replays: int = 1,
        weights: Callable[[int], Tensor | None] | None = None,
        position: Callable[[], tuple[int, int]] | None = None,
        streams: Mapping[str, int] | None = None,
    ) -> None:
        self.rows = check_sizes(batch_size, ranks, micro_batches, block=1)
        self.size, self.batch_size, self.micro_batches = size, batch_size, micro_batches
        self.ranks, self.rank, self.seed, self.replays = ranks, rank, seed, replays
        self.weights, self.position = weights, position
        self.streams = {name: StreamOrder(n, seed, name) for name, n in (streams or {}).items()}
        self._epoch = 0
        examples = epoch_size(size, self._weights(self._position()[0]))
        self.steps = examples // batch_size
        if self.steps == 0:
            weighted = "" if weights is None else " with its sample weights"
            raise UserError(
                f"the training split{weighted} has {examples} examples, fewer than batch_size={batch_size}: "
                "lower trainer.batch_size."
            )

    def __len__(self) -> int:
        """Micro-batches of an epoch, replays counted."""
        return self.steps * self.micro_batches * self.replays

    def __iter__(self) -> Iterator[Rows]:
        epoch, first = self._position()
        self._epoch = epoch + 1
        order = self.order(epoch)
        if len(order) // self.batch_size != self.steps:
            raise UserError(
                f"sample weights leave {len(order)} examples in epoch {epoch}, not {self.steps} steps of "
                f"{self.batch_size} as before: keep the sum of integer weights the same, or use floats."
            )
        for number in range(first, len(self)):
            yield self._at(epoch, order, number // self.replays)

    def order(self, epoch: int) -> Int[Tensor, " M"]:
        """The examples of an epoch in their order over all ranks, the dropped rest included."""
        return epoch_order(self.size, self.seed, epoch, self._weights(epoch))

    def _weights(self, epoch: int) -> Tensor | None:
        weights = None if self.weights is None else self.weights(epoch)
        return None if weights is None else weights.detach().cpu()

    def _at(self, epoch: int, order: Tensor, number: int) -> Rows:
        """Micro-batch `number` of this rank in an epoch, replays not counted."""
        step, micro = divmod(number, self.micro_batches)
        start = step * self.batch_size + (micro * self.ranks + self.rank) * self.rows
        overall = epoch * self.steps * self.batch_size + start
        streams = {name: stream.rows(overall, self.rows) for name, stream in self.streams.items()}
        return Rows(order[start : start + self.rows], streams)

    def _position(self) -> tuple[int, int]:
        return (self._epoch, 0) if self.position is None else self.position()
