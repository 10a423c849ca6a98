"""What a stack sends between ranks, by the calls that its members make."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Num, Shaped
from torch import Tensor

from poise.distributed import Ranks
from poise.planning.meters import bytes_of

Kind = Literal["all_reduce", "all_gather", "reduce_scatter"]


@dataclass(frozen=True)
class Collective:
    """One collective.

    Args:
        kind: of it.
        size: bytes of what is whole afterwards (all_reduce, all_gather) or was before (reduce_scatter).
        hidden: whether it travels while gradients are still being computed.
    """

    kind: Kind
    size: float
    hidden: bool = False

    def sent(self, ranks: int) -> float:
        """Bytes that each rank sends, by the ring algorithm that NCCL and gloo take for what is not small.

        Source: Patarasu and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009.
        """
        return (2 if self.kind == "all_reduce" else 1) * self.size * (ranks - 1) / ranks


class ImaginedRanks(Ranks):
    """One of many ranks, all of which hold what this one holds; notes what would be sent.

    Args:
        size: ranks.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: list[Collective] = []

    def sum(self, value: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
        return _Sum.apply(value, self._reduced)

    def mean(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return self.sum(value) / self.size

    def max(self, value: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
        return self._reduced(value)

    def gather(self, value: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "N *shape"]:
        return _Gather.apply(value, self._gathered, self._reduced)

    def collect(self, value: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "N *shape"]:
        self._gathered(torch.zeros(1, dtype=torch.int64, device=value.device))
        return self._gathered(value)

    def _reduced(self, value: Tensor) -> Tensor:
        self.calls.append(Collective("all_reduce", bytes_of(value)))
        return value.detach().clone()

    def _gathered(self, value: Tensor) -> Tensor:
        self.calls.append(Collective("all_gather", self.size * bytes_of(value)))
        return torch.cat([value.detach()] * self.size)


class _Sum(torch.autograd.Function):
    """All-reduce, and in its backward another."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, reduced: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.reduced = reduced
        return reduced(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0], ctx.reduced), None


class _Gather(torch.autograd.Function):
    """All-gather; its backward is an all-reduce of which a rank keeps its rows."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, gathered: Callable[[Tensor], Tensor], reduced: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.rows, ctx.reduced = len(value), reduced
        return gathered(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0], ctx.reduced).narrow(0, 0, ctx.rows), None, None
