"""What a step notes for the log, on its way there: on the device, until somebody reads it."""

import zlib
from collections.abc import Mapping

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import pad

from poise.distributed import Ranks

TOGETHER = 30  # values that ranks send each other in one message; what is beyond takes another


class Notes:
    """The latest value of each name since values were last read.

    Attributes:
        latest: of each name what was read last.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor | float] = {}
        self.latest: dict[str, Tensor] = {}

    def keep(self, values: Mapping[str, Shaped[Tensor, "..."] | float]) -> None:
        """Note values, a tensor of any shape as its mean."""
        self._kept |= {name: v.detach().mean() if isinstance(v, Tensor) else float(v) for name, v in values.items()}

    def read(self, loss: Float[Tensor, ""], ranks: Ranks) -> Mapping[str, Shaped[Tensor, ""]]:
        """What was noted, and the loss, as values of the whole batch; forgets them."""
        shares = {name: _tensor(value).to(loss.device) for name, value in self._kept.items()}
        self._kept = {}
        read = _mean_over_ranks({"loss": loss.detach(), **shares}, ranks)
        self.latest |= read
        return read

    def state(self) -> dict[str, Shaped[Tensor, "..."]]:
        """What a run that goes on has to know: values on their way, and those that its curves repeat."""
        kept = {f"kept.{name}": _tensor(value) for name, value in self._kept.items()}
        return kept | {f"latest.{name}": value for name, value in self.latest.items()}

    def load(self, state: Mapping[str, Shaped[Tensor, "..."]]) -> None:
        """Put back what `state` gave."""
        for name, value in state.items():
            whose, _, own = name.partition(".")
            (self._kept if whose == "kept" else self.latest)[own] = value


def _tensor(value: Tensor | float) -> Tensor:
    """A number in float64: whatever the default type is where it is looked at, nothing of it is lost."""
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


@torch.no_grad()
def _mean_over_ranks(values: Mapping[str, Tensor], ranks: Ranks) -> Mapping[str, Shaped[Tensor, ""]]:
    """Values of each rank's share of the batch as those of the whole batch.

    Where ranks have noted different values, as a recipe may that looks at its share, each keeps its own: a log is
    nothing to wait for forever. So a checksum of the names travels with the first values, in a message of one size.
    """
    if ranks.size == 1:
        return values
    flat = torch.stack([value.double() for value in values.values()])
    key = zlib.crc32(",".join(values).encode()) % 2**20
    sent = torch.cat([flat.new_tensor([key, key**2]), flat[:TOGETHER]])
    means = ranks.mean(pad(sent, (0, 2 + TOGETHER - len(sent))))
    mean, square = means[:2].tolist()
    if mean**2 != square:
        return values
    parts = [means[2 : len(sent)], *([ranks.mean(flat[TOGETHER:])] if len(flat) > TOGETHER else [])]
    return dict(zip(values, torch.cat(parts).unbind(), strict=True))
