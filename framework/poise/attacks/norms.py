"""The geometry of each norm. A further norm is one more class here and one more entry in NORMS.

All of it works on `x` and `x_adv` of shape [B, *input], example by example.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


class Norm(ABC):
    """What a threat asks of its norm."""

    @abstractmethod
    def diameter(self, width: float, size: int) -> float:
        """Distance of the two inputs farthest apart, of `size` values in a range of this width."""

    @abstractmethod
    def distance(self, x_adv: Float[Tensor, "B *input"], x: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
        """Norm of `x_adv - x`, >= 0."""

    @abstractmethod
    def projection(
        self, x: Float[Tensor, "B *input"], eps: float, low: float | None, high: float | None
    ) -> Callable[[Float[Tensor, "B *input"]], Float[Tensor, "B *input"]]:
        """The map from x_adv to a point of ball and range; a point of both stays as it is."""

    @abstractmethod
    def direction(self, gradient: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """The step of length one along which the loss rises fastest; zero where the gradient is."""

    @abstractmethod
    def scatter(self, noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """Noise uniform in [-1, 1] turned into a random point of the ball of radius one around zero."""


class Linf(Norm):
    """Every value moves by at most eps."""

    def diameter(self, width: float, size: int) -> float:
        return width

    def distance(self, x_adv: Float[Tensor, "B *input"], x: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
        return torch.linalg.vector_norm(_rows(x_adv - x), math.inf, dim=1)

    def projection(
        self, x: Float[Tensor, "B *input"], eps: float, low: float | None, high: float | None
    ) -> Callable[[Float[Tensor, "B *input"]], Float[Tensor, "B *input"]]:
        radius = torch.full_like(x, eps)
        lowest = _clipped(_moved(x, -radius), low, high)
        highest = _clipped(_moved(x, radius), low, high)
        return lambda x_adv: x_adv.clamp(lowest, highest)

    def direction(self, gradient: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        return gradient.sign()

    def scatter(self, noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        return noise


class L2(Norm):
    """The Euclidean length of an example's change is at most eps."""

    def diameter(self, width: float, size: int) -> float:
        return width * math.sqrt(size)

    def distance(self, x_adv: Float[Tensor, "B *input"], x: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
        return torch.linalg.vector_norm(_rows(x_adv - x), dim=1)

    def projection(
        self, x: Float[Tensor, "B *input"], eps: float, low: float | None, high: float | None
    ) -> Callable[[Float[Tensor, "B *input"]], Float[Tensor, "B *input"]]:
        # a few roundings short of eps, so that the result counts as inside when it is projected again
        radius = eps * (1 - 4 * torch.finfo(x.dtype).eps)

        def project(x_adv: Tensor) -> Tensor:
            length = _like(self.distance(x_adv, x), x)
            inside = torch.where(length <= eps, x_adv, _moved(x, (x_adv - x) * (radius / length)))
            return _clipped(inside, low, high)

        return project

    def direction(self, gradient: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        length = torch.linalg.vector_norm(_rows(gradient), dim=1)
        return gradient / (_like(length, gradient) + 1e-10)

    def scatter(self, noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """A direction uniform on the sphere and, independent of it, a length uniform in [0, 1]."""
        below_one = 1 - torch.finfo(noise.dtype).eps
        normal = math.sqrt(2) * torch.erfinv(noise.clamp(-below_one, below_one))
        length = torch.linalg.vector_norm(_rows(normal), dim=1)
        # the length of a normal vector under its own distribution function is uniform
        radius = torch.special.gammainc(torch.full_like(length, _size(noise) / 2), length.square() / 2)
        return normal * _like(radius / (length + 1e-10), normal)


NORMS: dict[str, Norm] = {"linf": Linf(), "l2": L2()}


def _moved(x: Tensor, change: Tensor) -> Tensor:
    """`x + change`, rounded towards x: the rounding of a sum is as large as some radii are precise."""
    moved = x + change
    return torch.where((moved - x).abs() > change.abs(), moved.nextafter(x), moved)


def _clipped(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None else x.clamp(low, high)


def _size(x: Tensor) -> int:
    return math.prod(x.shape[1:])


def _rows(x: Tensor) -> Tensor:
    return x.reshape(len(x), _size(x))


def _like(per_example: Tensor, x: Tensor) -> Tensor:
    """[B] -> [B, 1, …] with as many axes as x."""
    return per_example.reshape(-1, *[1] * (x.ndim - 1))
