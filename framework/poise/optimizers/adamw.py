"""Adam with decoupled weight decay."""

from collections.abc import Iterable
from typing import Annotated, Any

import torch
from annotated_types import Ge, Lt


def adamw(
    parameters: Iterable[Any],
    lr: Annotated[float, Ge(0)] = 1e-3,
    beta1: Annotated[float, Ge(0), Lt(1)] = 0.9,
    beta2: Annotated[float, Ge(0), Lt(1)] = 0.999,
    eps: Annotated[float, Ge(0)] = 1e-8,
    weight_decay: Annotated[float, Ge(0)] = 1e-2,
) -> torch.optim.Optimizer:
    """AdamW, Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019, arXiv 1711.05101.

    Args:
        parameters: parameters or parameter groups.
        lr: learning rate, before the schedule's factor.
        beta1: decay of the mean of gradients, in [0, 1).
        beta2: decay of the mean of squared gradients, in [0, 1).
        eps: added to the denominator.
        weight_decay: 0 or more; each step shrinks weights by the factor 1 - lr * weight_decay.
    """
    return torch.optim.AdamW(parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)
