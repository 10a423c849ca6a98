"""Put a model in another mode for a while, and leave no trace of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from poise.errors import UserError, nearest

Mode = Literal["eval", "train"]


def check_mode(mode: str) -> None:
    """Raises UserError unless `mode` is 'eval' or 'train'."""
    allowed = get_args(Mode)
    if mode not in allowed:
        raise UserError(f"mode={mode!r} is neither 'eval' nor 'train'.{nearest(str(mode), allowed)}")


@contextmanager
def in_mode(model: nn.Module, mode: Mode) -> Iterator[None]:
    """The whole model in evaluation or training mode; afterwards every module has its own flag back.

    The flags are restored one by one, so a layer that was frozen by hand is frozen again.
    """
    check_mode(mode)
    flags = [(module, module.training) for module in model.modules()]
    model.train(mode == "train")
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def flags_given_back(model: nn.Module) -> Iterator[None]:
    """Afterwards every module is in its own mode again, and every parameter asks for gradients as it did."""
    modes = [(module, module.training) for module in model.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, needed in trained:
            parameter.requires_grad_(needed)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Batch norm in training mode uses the batch's statistics, and its running ones and its count stay.

    Modes are left alone: in evaluation mode batch norm goes on using its running statistics.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
