"""Ranks: what a recipe may ask of the other processes; and how a trainer is spread over them."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Num, Shaped
from torch import Tensor, nn

from poise import company
from poise.strategies import check_strategy, is_zero
from poise.zero_settings import zero_settings

if TYPE_CHECKING:
    import lightning as L
    from lightning.pytorch.strategies import Strategy


class Ranks:
    """Sums, means and gathers over ranks; the identity on one rank, which is what this class is.

    Gradients are those of the mean over ranks of what each rank minimises, which is what DDP and DeepSpeed
    compute from each rank's backward. So a loss built from these values has the same gradient on any number
    of ranks. Every rank has to make the same calls in the same order.
    """

    size: int = 1
    rank: int = 0

    def sum(self, value: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
        """The sum over ranks, elementwise, with gradient."""
        return value

    def mean(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The mean over ranks, elementwise, with gradient."""
        return value

    def max(self, value: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
        """The maximum over ranks, elementwise, without gradient."""
        return value.detach()

    def gather(self, value: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "N *shape"]:
        """All ranks' rows in rank order, with gradient; every rank has equally many."""
        return value

    def collect(self, value: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "N *shape"]:
        """All ranks' rows in rank order, without gradient; ranks may have different numbers of rows."""
        return value.detach()

    def barrier(self) -> None:
        """Return once every rank has come here: for what one rank does alone, however long it takes."""


class ProcessRanks(Ranks):
    """The ranks of torch.distributed's default group, on gloo or NCCL."""

    def __init__(self) -> None:
        self.size = dist.get_world_size()
        self.rank = dist.get_rank()

    def sum(self, value: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
        return _Sum.apply(value)

    def mean(self, value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return _Sum.apply(value) / self.size

    def max(self, value: Num[Tensor, "*shape"]) -> Num[Tensor, "*shape"]:
        return _reduced(value, dist.ReduceOp.MAX)

    def gather(self, value: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "N *shape"]:
        return _Gather.apply(value)

    def collect(self, value: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "N *shape"]:
        rows = torch.tensor([len(value)], device=value.device)
        counts = [int(count) for count in _gathered(rows)]
        padded = value.new_zeros((max(counts), *value.shape[1:]))
        padded[: len(value)] = value.detach()
        parts = _gathered(padded).split(max(counts)) if max(counts) else [padded] * self.size
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def barrier(self) -> None:
        company.meet()


def current_ranks() -> Ranks:
    """The ranks of this process: those of torch.distributed where it is set up with more than one."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return ProcessRanks()
    return Ranks()


class _Sum(torch.autograd.Function):
    """All-reduce; its backward is itself, so it can be differentiated any number of times."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _reduced(value, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.apply(gradients[0])


class _Gather(torch.autograd.Function):
    """All-gather along the first dimension; its backward sums over ranks and keeps this rank's rows."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.rows = len(value)
        return _gathered(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.apply(gradients[0]).narrow(0, dist.get_rank() * ctx.rows, ctx.rows)


def _reduced(value: Tensor, operation: Any) -> Tensor:
    result = _sendable(value).clone(memory_format=torch.contiguous_format)
    dist.all_reduce(result, operation)
    return result.to(value.device)


def _gathered(value: Tensor) -> Tensor:
    own = _sendable(value).contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return torch.cat(parts).to(value.device)


def _sendable(value: Tensor) -> Tensor:
    """NCCL moves nothing that is not on the GPU."""
    return value.detach().cuda() if dist.get_backend() == "nccl" else value.detach()


def strategy(
    name: str,
    *,
    world_size: int,
    accelerator: str,
    precision: str = "32-true",
    find_unused_parameters: bool = False,
    deepspeed: str | None = None,
    timeout: timedelta = timedelta(minutes=30),
    rows: int = 1,
) -> "str | Strategy":
    """What `L.Trainer(strategy=…)` takes.

    Args:
        name: one of STRATEGIES; 'auto' is a single device on one rank and DDP on several.
        world_size: ranks over all nodes.
        accelerator: 'cpu' or 'cuda' ('gpu').
        precision: one of PRECISIONS; the same has to be given to the Trainer.
        find_unused_parameters: of DDP: some parameters take no part in some steps.
        deepspeed: a JSON file of settings for DeepSpeed, over those of the strategy.
        timeout: of a collective.
        rows: of DeepSpeed: examples of a micro-batch on one rank.

    Raises:
        UserError: an unknown strategy or precision, fp16, float64 under DeepSpeed, no DeepSpeed installed, a file
            of settings that does not fit.
    """
    check_strategy(name, precision)
    device_type = "cuda" if accelerator in ("gpu", "cuda") else accelerator
    if is_zero(name):
        return _zero(zero_settings(name, deepspeed), device_type, precision, timeout, rows)
    if name == "auto" and world_size == 1:
        return "auto"
    from poise.patience import PatientDDP

    return PatientDDP(
        process_group_backend="nccl" if device_type == "cuda" else "gloo",
        timeout=timeout,
        broadcast_buffers=False,  # it would send every table each step, and undo what a rank keeps for itself
        find_unused_parameters=find_unused_parameters,
    )


def full_state(trainer: "L.Trainer", module: nn.Module) -> dict[str, Shaped[Tensor, "..."]]:
    """Copies, on the CPU, of `module`'s whole state under any strategy. To be called on all ranks.

    Args:
        trainer: the one that trains, or has trained, `module`.
        module: the LightningModule or a part of it.
    """
    state = module.state_dict(keep_vars=True)
    with torch.no_grad():
        return {
            name: _whole(trainer, value) for name, value in state.items() if isinstance(value, Tensor)
        }  # a recipe's extra state is no tensor


def load_full_state(trainer: "L.Trainer", module: nn.Module, state: Mapping[str, Shaped[Tensor, "..."]]) -> None:
    """Put what `full_state` gave back into `module`, under any strategy. To be called on all ranks.

    An optimiser with master copies of its own (ZeRO's) writes over it at its next step: it is meant for
    evaluation.
    """
    own = module.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, value in state.items():
            with _gathered_parameter(trainer, own[name]):
                own[name].copy_(value)


def _whole(trainer: "L.Trainer", value: Tensor) -> Tensor:
    with _gathered_parameter(trainer, value):
        return value.detach().clone().cpu()


def _gathered_parameter(trainer: "L.Trainer", value: Tensor) -> AbstractContextManager[Any]:
    """ZeRO-3 leaves an empty tensor in place of a parameter that is shared out."""
    if getattr(trainer.strategy, "zero_stage_3", False) and hasattr(value, "ds_id"):
        import deepspeed

        return deepspeed.zero.GatheredParameters([value], modifier_rank=0)
    return nullcontext()


def _zero(settings: Mapping[str, Any], device_type: str, precision: str, timeout: timedelta, rows: int) -> "Strategy":
    if device_type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # read once, when DeepSpeed is imported
    from poise.zero import ZeroStrategy

    return ZeroStrategy(settings, device_type, precision, timeout, rows)
