"""What a step notes for the log, on its way there: on the device, until somebody reads it."""

import zlib
from collections.abc import Mapping

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn.functional import pad

from poise.distributed import Ranks

TOGETHER = 30  # values that ranks send each other in one message; what is beyond takes another


class Notes:
    """The latest value of each name since values were last read.

    That of a step is the mean over its micro-batches, by their examples; of what is noted in one of them twice, or
    between two steps, the last holds.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor | float] = {}
        self._new: dict[str, Tensor | float] = {}  # since the last micro-batch
        self._examples: dict[str, int] = {}  # of the step under way, that a kept value is the mean over

    def keep(self, values: Mapping[str, Shaped[Tensor, "..."] | float]) -> None:
        """Note values, a tensor of any shape as its mean."""
        self._new |= {name: _mean(v) if isinstance(v, Tensor) else float(v) for name, v in values.items()}

    def end_batch(self, examples: int, first: bool) -> None:
        """Count what was noted as that of a micro-batch of so many examples, the first of its step or a further one."""
        if first:
            self._examples = {}
        for name, value in self._new.items():
            before = self._examples.get(name, 0)
            share = examples / (before + examples)
            self._kept[name] = self._kept[name] + (value - self._kept[name]) * share if before else value
            self._examples[name] = before + examples
        self._new = {}

    def read(self, device: torch.device, ranks: Ranks) -> Mapping[str, Shaped[Tensor, ""]]:
        """What was noted, as values of the whole batch on the device; forgets it. Call on all ranks."""
        values = {name: _tensor(value).to(device) for name, value in self._latest().items()}
        self._kept, self._new, self._examples = {}, {}, {}
        return _mean_over_ranks(values, device, ranks)

    def state(self) -> dict[str, Shaped[Tensor, "..."]]:
        """What a run that goes on after a whole step has to know."""
        return {name: _tensor(value) for name, value in self._latest().items()}

    def load(self, state: Mapping[str, Shaped[Tensor, "..."]]) -> None:
        """Put back what `state` gave."""
        self._kept |= state

    def _latest(self) -> dict[str, Tensor | float]:
        return self._kept | self._new


def _mean(values: Tensor) -> Tensor:
    """Of numbers of any type."""
    return (values.detach() if values.is_floating_point() else values.double()).mean()


def _tensor(value: Tensor | float) -> Tensor:
    """A number in float64: whatever the default type is where it is looked at, nothing of it is lost."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


@torch.no_grad()
def _mean_over_ranks(
    values: Mapping[str, Tensor], device: torch.device, ranks: Ranks
) -> Mapping[str, Shaped[Tensor, ""]]:
    """Values of each rank's share of the batch as those of the whole batch.

    Where ranks have noted different values, as a recipe may that looks at its share, each keeps its own: a log is
    nothing to wait for forever. So a checksum of the names travels with the first values, in a message of one size.
    """
    if ranks.size == 1:
        return values
    key = zlib.crc32(",".join(values).encode()) % 2**20
    checksum = torch.tensor([key, key**2], dtype=torch.float64, device=device)
    sent = torch.stack([*checksum.unbind(), *(value.double() for value in values.values())])
    first, rest = sent[: 2 + TOGETHER], sent[2 + TOGETHER :]
    means = ranks.mean(pad(first, (0, 2 + TOGETHER - len(first))))
    mean, square = means[:2].tolist()
    if mean**2 != square:
        return values
    parts = [means[2 : len(first)], *([ranks.mean(rest)] if len(rest) else [])]
    return dict(zip(values, torch.cat(parts).unbind(), strict=True))
