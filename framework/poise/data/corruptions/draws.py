"""Random numbers of a picture, keyed by its place: the same whenever, and with whichever others, it is read."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.data.keys import generator


class Draws:
    """Random numbers for some pictures of a split.

    Args:
        key: what the numbers depend on besides the picture.
        positions: of the pictures in their split.
        like: its type is that of the numbers.
    """

    def __init__(self, key: str, positions: Int[Tensor, " B"], like: Float[Tensor, "..."]) -> None:
        self.key, self.positions, self.dtype = key, positions.tolist(), like.dtype

    def uniform(self, *shape: int) -> Float[Tensor, "B *shape"]:
        """Numbers in [0, 1)."""
        return self._each(lambda place, keyed: torch.rand(shape, generator=keyed, dtype=self.dtype))

    def normal(self, *shape: int) -> Float[Tensor, "B *shape"]:
        """Standard normal numbers."""
        return self._each(lambda place, keyed: torch.randn(shape, generator=keyed, dtype=self.dtype))

    def poisson(self, rate: Float[Tensor, "B *shape"]) -> Float[Tensor, "B *shape"]:
        """Whole numbers with these means."""
        return self._each(lambda place, keyed: torch.poisson(rate[place], generator=keyed))

    def _each(self, draw: Callable[[int, torch.Generator], Tensor]) -> Float[Tensor, "B *shape"]:
        numbers = [draw(place, generator(self.key, position)) for place, position in enumerate(self.positions)]
        return torch.stack(numbers)
