"""Random numbers of each example, which hang on a seed, a name and the example's position, and on nothing else."""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

# of SplitMix64, as signed numbers: 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_STRIDE, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685
_BITS = 24  # of a uniform number, which float32 holds exactly


@dataclass(frozen=True)
class Draws:
    """A stream of random numbers for each of B examples.

    Numbers are a function of an example's key and of their place in the stream, so they are the same whatever batch,
    rank, device or order an example comes in, and all examples draw at once. The same name is the same draw.

    Source: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014, SplitMix64.

    Args:
        keys: of the examples' streams.
    """

    keys: Int[Tensor, " B"]

    @classmethod
    def of(cls, seed: int, index: Int[Tensor, " B"]) -> "Draws":
        """The streams of the examples at positions `index` of their split."""
        return cls(_mixed(_mixed(torch.as_tensor(seed, device=index.device) + _STRIDE) + index.long() * _STRIDE))

    def named(self, *name: object) -> "Draws":
        """Streams of their own for each name, such as an attack's and the number of its restart."""
        key = zlib.crc32(",".join(map(str, name)).encode())
        return Draws(_mixed(self.keys + (key + 1) * _STRIDE % 2**63))

    def rows(self, chosen: Shaped[Tensor, "..."]) -> "Draws":
        """The streams of the chosen examples: positions, or a mask [B]."""
        return Draws(self.keys[chosen])

    def uniform(self, *shape: int, first: int = 0) -> Float[Tensor, "B ..."]:
        """Uniform in [0, 1), float32 [B, *shape]: the numbers of each stream from its `first` on."""
        return (self._bits(shape, first) >> (64 - _BITS) & (2**_BITS - 1)).float() * 2.0**-_BITS

    def normal(self, *shape: int, first: int = 0) -> Float[Tensor, "B ..."]:
        """Standard normal, float32 [B, *shape], by the inverse of its distribution function."""
        below_one = 1 - 2.0**-_BITS
        return math.sqrt(2) * torch.erfinv((2 * self.uniform(*shape, first=first) - below_one).clamp(-below_one))

    def signs(self, *shape: int, first: int = 0) -> Float[Tensor, "B ..."]:
        """-1 or 1 with equal probability, float32 [B, *shape]."""
        return (self._bits(shape, first) < 0).float() * 2 - 1

    def _bits(self, shape: Iterable[int], first: int) -> Tensor:
        sizes = tuple(shape)
        place = torch.arange(first + 1, first + 1 + math.prod(sizes), device=self.keys.device)
        return _mixed(self.keys[:, None] + place * _STRIDE).reshape(len(self.keys), *sizes)


def _mixed(z: Tensor) -> Tensor:
    """The finalizer: every bit of z changes every bit of the result. Integers wrap, as they are meant to."""
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """Bits moved to the right, zeros coming in, which signed integers do not do by themselves."""
    return z >> by & (1 << 64 - by) - 1
