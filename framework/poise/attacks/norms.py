"""The geometry of each norm. A further norm is one more class here and one more entry in NORMS.

All of it works on `x` and `x_adv` of shape [B, *input], example by example.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
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
    def direction(
        self,
        x_adv: Float[Tensor, "B *input"],
        gradient: Float[Tensor, "B *input"],
        low: float | None,
        high: float | None,
    ) -> Float[Tensor, "B *input"]:
        """The step of length one along which the loss rises fastest from `x_adv`; zero where the gradient is."""

    @abstractmethod
    def scatter(self, noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """Noise uniform in [-1, 1] turned into a random point of the ball of radius one around zero."""

    @abstractmethod
    def spread(self, noise: Float[Tensor, "B *input"], eps: float) -> Float[Tensor, "B *input"]:
        """Noise uniform in [-1, 1] turned into a random change that, projected, lies on the surface of the ball."""


class Linf(Norm):
    """Every value moves by at most eps."""

    def diameter(self, width: float, size: int) -> float:
        return width

    def distance(self, x_adv: Float[Tensor, "B *input"], x: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
        return _rows(x_adv - x).abs().amax(1)  # many times as fast as the norm

    def projection(
        self, x: Float[Tensor, "B *input"], eps: float, low: float | None, high: float | None
    ) -> Callable[[Float[Tensor, "B *input"]], Float[Tensor, "B *input"]]:
        radius = torch.full_like(x, eps)
        lowest = _clipped(_moved(x, -radius), low, high)
        highest = _clipped(_moved(x, radius), low, high)
        return lambda x_adv: x_adv.clamp(lowest, highest)

    def direction(
        self,
        x_adv: Float[Tensor, "B *input"],
        gradient: Float[Tensor, "B *input"],
        low: float | None,
        high: float | None,
    ) -> Float[Tensor, "B *input"]:
        return gradient.sign()

    def scatter(self, noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        return noise

    def spread(self, noise: Float[Tensor, "B *input"], eps: float) -> Float[Tensor, "B *input"]:
        return eps * _over_largest(noise)


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

    def direction(
        self,
        x_adv: Float[Tensor, "B *input"],
        gradient: Float[Tensor, "B *input"],
        low: float | None,
        high: float | None,
    ) -> Float[Tensor, "B *input"]:
        return _of_length_one(gradient)

    def scatter(self, noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """A direction uniform on the sphere and, independent of it, a length uniform in [0, 1]."""
        normal = _normal(noise)
        length = torch.linalg.vector_norm(_rows(normal), dim=1)
        # the length of a normal vector under its own distribution function is uniform
        radius = torch.special.gammainc(torch.full_like(length, _size(noise) / 2), length.square() / 2)
        return normal * _like(radius / (length + 1e-10), normal)

    def spread(self, noise: Float[Tensor, "B *input"], eps: float) -> Float[Tensor, "B *input"]:
        return eps * _of_length_one(_normal(noise))


class L1(Norm):
    """The absolute changes of an example's values sum to at most eps: few values move, and far.

    Source: Croce, Hein: Mind the box: l1-APGD for sparse adversarial attacks on image classifiers, 2021,
    arXiv 2103.01208, proposition 2.1, for the projection on ball and range together.
    """

    def diameter(self, width: float, size: int) -> float:
        return width * size

    def distance(self, x_adv: Float[Tensor, "B *input"], x: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
        return _sum_of_sizes(x_adv - x).to(x.dtype)

    def projection(
        self, x: Float[Tensor, "B *input"], eps: float, low: float | None, high: float | None
    ) -> Callable[[Float[Tensor, "B *input"]], Float[Tensor, "B *input"]]:
        # some roundings of values and of sums short of eps, so that the result counts as inside when projected again
        radius = eps * (1 - 4 * torch.finfo(x.dtype).eps - 64 * torch.finfo(torch.float64).eps)

        def project(x_adv: Tensor) -> Tensor:
            valid = _clipped(x_adv, low, high)
            wanted, allowed = x_adv - x, valid - x
            size, most = wanted.abs(), allowed.abs()
            shorter = torch.minimum((size - _like(_threshold(size, most, radius), x)).clamp_(min=0), most)
            excess = (_sum_of_sizes(shorter) / radius if radius else _sum_of_sizes(shorter) + torch.inf).clamp(min=1)
            inside = _like(_sum_of_sizes(allowed) <= eps, x)
            shorter = wanted.sign() * (shorter / _like(excess, x)).to(x.dtype)
            return torch.where(inside, valid, _clipped(_moved(x, shorter), low, high))

        return project

    def direction(
        self,
        x_adv: Float[Tensor, "B *input"],
        gradient: Float[Tensor, "B *input"],
        low: float | None,
        high: float | None,
    ) -> Float[Tensor, "B *input"]:
        """Equal steps of the largest hundredth of those values of the gradient that point into the range.

        Tramèr, Boneh: Adversarial Training and Robustness for Multiple Perturbations, 2019, arXiv 1904.13000, section
        4; in 20 steps at eps = 10, a twentieth left 81 of 95 MNIST pictures standing where a hundredth left 47, and
        the one largest 57. Values that point out of the range are left out, for they would take the places of values
        that can move.
        """
        if low is not None and high is not None:
            blocked = torch.where(gradient < 0, x_adv <= low, x_adv >= high)
            gradient = gradient.masked_fill(blocked, 0.0)
        return largest_signs(gradient, math.ceil(_size(gradient) / 100))

    def scatter(self, noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """A direction uniform on the sphere and, independent of it, a length uniform in [0, 1]."""
        below_one = 1 - torch.finfo(noise.dtype).eps
        exponential = -torch.log1p(-noise.abs().clamp(max=below_one))
        length = _sum_of_sizes(exponential)
        # the length of a vector of exponential numbers under its own distribution function is uniform
        radius = torch.special.gammainc(torch.full_like(length, _size(noise)), length)
        return noise.sign() * exponential * _like(radius / (length + 1e-10), noise).to(noise.dtype)

    def spread(self, noise: Float[Tensor, "B *input"], eps: float) -> Float[Tensor, "B *input"]:
        """Standard normal, longer where that would lie within: projected, the largest values remain."""
        normal = _normal(noise)
        return normal * _like((eps / _sum_of_sizes(normal)).clamp(min=1), normal).to(normal.dtype)


NORMS: dict[str, Norm] = {"linf": Linf(), "l2": L2(), "l1": L1()}


def largest_signs(
    gradient: Float[Tensor, "B *input"], count: int, counts: Int[Tensor, " B"] | None = None
) -> Float[Tensor, "B *input"]:
    """Equal steps, of length one together, along each example's `count` largest values of the gradient.

    Args:
        gradient: [B, *input].
        count: how many values move, of as many as there are; more where they tie, fewer where the others are zero.
        counts: of each example, in 1…count; `count` of each if None.
    """
    size = gradient.abs()
    largest = _rows(size).topk(count, dim=1).values
    smallest = largest[:, -1] if counts is None else largest.gather(1, counts[:, None] - 1)[:, 0]
    signs = torch.where(size >= _like(smallest, size), gradient.sign(), 0.0)
    return signs / _like(_rows(signs).abs().sum(1).clamp(min=1), signs)


def _threshold(size: Tensor, most: Tensor, radius: float) -> Tensor:
    """The number [B] by which every change is shortened so that they sum to the radius, and none exceeds its most.

    The sum falls with the threshold in straight lines. The interval in which it passes the radius is halved until
    hardly a line can end in it, and what is left is crossed in a straight line: exact up to rounding. Sorting the ends
    of all lines, as the authors' code does, takes six times as long.
    """
    size, most = _rows(size), _rows(most)
    shorter = torch.empty_like(size)

    def total(threshold: Tensor) -> Tensor:
        torch.sub(size, threshold, out=shorter)
        return torch.minimum(shorter.clamp_(min=0), most, out=shorter).sum(1, keepdim=True)

    high = size.amax(1, keepdim=True)
    low = torch.zeros_like(high)
    for _ in range(24 if size.dtype == torch.float32 else 44):
        middle = (low + high) / 2
        above = total(middle) > radius
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    at_low, at_high = total(low), total(high)
    share = (radius - at_high) / (at_low - at_high).clamp(min=torch.finfo(size.dtype).tiny)
    return (high - share.clamp(0, 1) * (high - low))[:, 0]


def _sum_of_sizes(change: Tensor) -> Tensor:
    """In float64: of many small numbers, float32 loses what a radius allows."""
    return _rows(change).abs().sum(1, dtype=torch.float64)


def _over_largest(x: Tensor) -> Tensor:
    """Each example divided by the size of its largest value; zero where all are."""
    if not len(x):
        return x
    size = _rows(x).abs().amax(1)
    return x / _like(size.clamp(min=torch.finfo(x.dtype).tiny), x)


def _of_length_one(x: Tensor) -> Tensor:
    """Each example over its Euclidean length; zero where it is."""
    scaled = _over_largest(x)  # the squares of small numbers are zero
    return scaled / _like(torch.linalg.vector_norm(_rows(scaled), dim=1).clamp(min=1), scaled)


def _normal(noise: Tensor) -> Tensor:
    """Noise uniform in [-1, 1] as standard normal."""
    below_one = 1 - torch.finfo(noise.dtype).eps
    return math.sqrt(2) * torch.erfinv(noise.clamp(-below_one, below_one))


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
