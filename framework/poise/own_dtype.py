"""Numbers that keep their precision when the module they belong to is cast to another."""

from collections.abc import Callable

from jaxtyping import Shaped
from torch import Tensor

Move = Callable[[Shaped[Tensor, "..."]], Shaped[Tensor, "..."]]
"""What `torch.nn.Module` does to each of its tensors in `to`, `half`, `cuda` and the like."""


def in_own_dtype(move: Move) -> Move:
    """The same where it goes to another device; a tensor that it would cast stays in its dtype."""

    def moved(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        there = move(tensor)
        return there if there.dtype == tensor.dtype else tensor.to(there.device)

    return moved
