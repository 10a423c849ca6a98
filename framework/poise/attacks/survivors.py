"""Several runs of an attack on the same examples, each on those that the ones before could not break."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Found:
    """What a run found.

    Args:
        x_adv: of each example a wrong point if there was one, else that of the greatest loss.
        loss: the greatest that was seen.
        wrong: whether there was a wrong point.
    """

    x_adv: Float[Tensor, "B *input"]
    loss: Float[Tensor, " B"]
    wrong: Bool[Tensor, " B"]


Run = Callable[[Int[Tensor, " b"]], Found]


def worst_of(x: Float[Tensor, "B *input"], runs: Iterable[Run]) -> Float[Tensor, "B *input"]:
    """Of each example a wrong point if any run found one, else that of the greatest loss.

    Args:
        x: the clean inputs, which stay where no run finds a loss.
        runs: each is told which rows of x are left to it.
    """
    worst, loss = x.clone(), x.new_full((len(x),), -torch.inf)
    left = torch.arange(len(x), device=x.device)
    for run in runs:
        found = run(left)
        worse = found.wrong | (found.loss > loss[left])
        worst[left] = torch.where(per_example(worse, x), found.x_adv, worst[left])
        loss[left] = torch.where(worse, found.loss.to(loss.dtype), loss[left])
        left = left[~found.wrong]
        if not len(left):
            break
    return worst


def per_example(values: Shaped[Tensor, " b"], x: Float[Tensor, "B *input"]) -> Shaped[Tensor, "b ..."]:
    """[B] -> [B, 1, …] with as many axes as x."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
