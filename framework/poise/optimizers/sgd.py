"""Stochastic gradient descent."""

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge


def sgd(
    parameters: Iterable[Any],
    lr: Annotated[float, Ge(0)] = 0.1,
    momentum: Annotated[float, Ge(0)] = 0.9,
    nesterov: bool = False,
    weight_decay: Annotated[float, Ge(0)] = 5e-4,
) -> torch.optim.Optimizer:
    """SGD with momentum; `weight_decay` is added to the gradient.

    Args:
        parameters: parameters or parameter groups.
        lr: learning rate, before the schedule's factor.
        momentum: 0 or more.
        nesterov: Nesterov's form of momentum; needs a momentum above 0.
        weight_decay: 0 or more.
    """
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
