"""What an attacker may do: a norm, a radius and the valid range of inputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from jaxtyping import Bool, Float
from torch import Tensor

from poise.attacks.norms import NORMS, Norm
from poise.errors import UserError, nearest


@dataclass(frozen=True)
class Threat:
    """The inputs within `eps` of an example, in the given norm and the valid range.

    Every method works on [B, *input], example by example, in the dtype it is given (float32 or float64), and
    takes `x` to lie in the range. `low` and `high` are None for data that have no valid range.

    Args:
        norm: 'linf', 'l2' or 'l1'.
        eps: the radius, >= 0, in the units of the data: 8/255 for images in 0…1.
        low: smallest valid value.
        high: largest valid value.

    Raises:
        UserError: an unknown norm; an eps that is not a finite number >= 0, or so large that it allows any
            change; half a range.
    """

    norm: str
    eps: float
    low: float | None = 0.0
    high: float | None = 1.0

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            known = ", ".join(NORMS)
            raise UserError(f"norm={self.norm!r} is not one of {known}.{nearest(str(self.norm), NORMS)}")
        if not _is_finite(self.eps) or self.eps < 0:
            raise UserError(f"eps={self.eps!r} is not a finite number >= 0.")
        if (self.low is None) != (self.high is None):
            raise UserError(
                f"low={self.low} and high={self.high}: give both ends of the valid range, or None for both."
            )
        if self.low is not None and self.high is not None:
            self._check_range(self.low, self.high)

    def __str__(self) -> str:
        """Such as `linf, eps = 8/255`."""
        pixels = round(255 * self.eps)
        return f"{self.norm}, eps = " + (f"{pixels}/255" if in_pixels(self.eps) else f"{self.eps:.4g}")

    def _check_range(self, low: float, high: float) -> None:
        if not (_is_finite(low) and _is_finite(high) and low < high):
            raise UserError(f"The valid range {low}…{high} is not a range: low < high, both finite numbers.")
        if self.norm == "linf" and self.eps > high - low:
            raise UserError(f"eps={self.eps} is larger than the valid range {low:g}…{high:g}: {self._unit()}.")

    def check(self, x: Float[Tensor, "B *input"]) -> None:
        """Looks at the shape of the inputs alone.

        Raises:
            UserError: eps reaches the distance of the two valid inputs farthest apart.
        """
        if self.low is None or self.high is None:
            return
        size = math.prod(x.shape[1:])
        diameter = self._geometry.diameter(self.high - self.low, size)
        if self.eps >= diameter and self.norm != "linf":
            raise UserError(
                f"eps={self.eps} reaches {diameter:g}, the largest {self.norm} distance between two inputs "
                f"of {size} values in {self.low:g}…{self.high:g}: {self._unit()}."
            )

    def check_values(self, x: Float[Tensor, "B *input"]) -> None:
        """Looks at the inputs themselves, and so waits for the device. NaN is let through, and so is rounding.

        Raises:
            UserError: x outside the valid range, where a change of eps is not what it is inside.
        """
        if self.low is None or self.high is None or not x.numel():
            return
        least, most = (float(end) for end in x.nan_to_num(nan=self.low).aminmax())
        slack = 1e-6 * (self.high - self.low)
        if least < self.low - slack or most > self.high + slack:
            valid = f"{self.low:g}…{self.high:g}"
            raise UserError(
                f"x lies in {least:.4g}…{most:.4g}, outside the threat's valid range {valid}: scale it to {valid} and "
                "normalise inside the model, or give Threat(…, low=…, high=…), None for both where there is no range."
            )

    def project(self, x_adv: Float[Tensor, "B *input"], x: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """A permitted input near `x_adv`; `x_adv` itself where it is permitted.

        For linf and l1 this is the nearest permitted input. For l2 the change is shortened to eps and then
        clipped to the range, which never lengthens it.
        """
        return self.projection(x)(x_adv)

    def projection(
        self, x: Float[Tensor, "B *input"]
    ) -> Callable[[Float[Tensor, "B *input"]], Float[Tensor, "B *input"]]:
        """`project` around one x, for many `x_adv`: what depends on x alone is computed once."""
        return self._geometry.projection(x, self.eps, self.low, self.high)

    def ascend(
        self, x_adv: Float[Tensor, "B *input"], gradient: Float[Tensor, "B *input"], step_size: float
    ) -> Float[Tensor, "B *input"]:
        """One step of length `step_size` up the gradient, not projected. A zero gradient moves nothing."""
        return x_adv.add(self.direction(x_adv, gradient), alpha=step_size)

    def direction(
        self, x_adv: Float[Tensor, "B *input"], gradient: Float[Tensor, "B *input"]
    ) -> Float[Tensor, "B *input"]:
        """The step of length one along which the loss rises fastest; zero where the gradient is.

        linf: signs. l2: the gradient over its length. l1: equal steps of the values where it is largest.
        """
        return self._geometry.direction(x_adv, gradient, self.low, self.high)

    def start(self, x: Float[Tensor, "B *input"], noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """A random permitted input, from noise uniform in [-1, 1].

        linf: uniform in the ball. l2 and l1: a uniform direction and a length uniform in 0…eps. Then clipped to
        the range.
        """
        return self.project(x + self.eps * self._geometry.scatter(noise), x)

    def edge(self, x: Float[Tensor, "B *input"], noise: Float[Tensor, "B *input"]) -> Float[Tensor, "B *input"]:
        """A random permitted input as far away as the range allows, from noise uniform in [-1, 1].

        linf: uniform on the surface of the ball. l2: a uniform direction. l1: the point nearest to standard normal
        noise, in which few values change. Then clipped to the range.
        """
        return self.project(x + self._geometry.spread(noise, self.eps), x)

    def distance(self, x_adv: Float[Tensor, "B *input"], x: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
        """How far `x_adv` is from `x`, in the norm."""
        return self._geometry.distance(x_adv, x)

    def permits(self, x_adv: Float[Tensor, "B *input"], x: Float[Tensor, "B *input"]) -> Bool[Tensor, " B"]:
        """Whether each `x_adv` is inside the threat around `x`, but for rounding."""
        near = self.distance(x_adv, x) <= self.eps * (1 + 1e-5) + 1e-6
        if self.low is None or self.high is None:
            return near & x_adv.flatten(1).isfinite().all(1)
        return near & ((x_adv >= self.low) & (x_adv <= self.high)).flatten(1).all(1)

    @property
    def _geometry(self) -> Norm:
        return NORMS[self.norm]

    def _unit(self) -> str:
        width = (self.high or 0.0) - (self.low or 0.0)
        fits = self.eps / 255 <= width and self.norm != "l1"
        return f"write {self.eps:g}/255" if fits else "eps is in the units of the data"


def _is_finite(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def in_pixels(eps: float) -> bool:
    """Whether a radius is one that people write as so many 255ths."""
    return 0 < eps < 0.2 and math.isclose(255 * eps, round(255 * eps), rel_tol=1e-6)
