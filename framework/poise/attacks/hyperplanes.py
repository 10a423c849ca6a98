"""The shortest way from a point to a hyperplane that does not leave the valid range, in each norm.

A further norm is one more function here and one more entry in PLANES. Nothing is sorted: two norms share Newton's
method, the third asks for as many of the largest entries as it needs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

FEW = 32  # entries that a change in l1 is tried with first
ROUNDS = 4  # of Newton's method between two looks at whether it is done, for which the host waits

Reach = Callable[[Tensor, Tensor, Tensor], Tensor]


def change_to(
    norm: str,
    x: Float[Tensor, "B P D"],
    w: Float[Tensor, "B D"],
    gap: Float[Tensor, "B P"],
    low: float | None,
    high: float | None,
) -> Float[Tensor, "B P D"]:
    """The shortest change d in the norm with w·d = gap and x + d in the range; for P points and one w each.

    Where no such change exists, as far as the range allows along every value that w has a part in.

    Exact up to rounding: with g = |w| and the room r that each value has in the direction asked for, the change is
    min(λ, r) in linf and min(λ·g, r) in l2, with the one λ at which Σ g·|d| is |gap|; in l1 the values with the largest
    g are moved to their ends, one after the other. Croce, Hein: Minimally distorted Adversarial Examples with a Fast
    Adaptive Boundary Attack, 2019, arXiv 1907.02044, section 2.1. Their code takes entries of w below 1e-8 for zero in
    l2 and l1; here w is scaled first, so that its size does not matter.

    Args:
        norm: a key of PLANES.
        x: points in the range.
        w: normals of the hyperplanes.
        gap: b - w·x for the hyperplane w·z = b.
        low: smallest valid value; None where there is no range.
        high: largest valid value.
    """
    scale = w.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
    direction = w.sign()[:, None] * gap.sign()[..., None]
    moved = PLANES[norm].reach(w.abs() / scale, _room(x, direction, low, high), gap.abs() / scale)
    return moved.mul_(direction)


def length(norm: str, change: Float[Tensor, "B P D"]) -> Float[Tensor, "B P"]:
    """Of each change in the norm."""
    return _norm(change, PLANES[norm].order)


def dual_length(norm: str, w: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """How fast w·d can grow with the length of d."""
    return _norm(w, PLANES[norm].dual)


def _norm(values: Tensor, order: float) -> Tensor:
    # the maximum by its own operation, which is many times as fast as the norm
    return values.abs().amax(-1) if order == math.inf else torch.linalg.vector_norm(values, order, dim=-1)


def _room(x: Tensor, direction: Tensor, low: float | None, high: float | None) -> Tensor:
    """How far each value can go."""
    if low is None or high is None:
        return torch.full_like(x, math.inf)
    corner = torch.gt(direction, 0, out=torch.empty_like(x)).mul_(high - low).add_(low)
    return corner.sub_(x).abs_()


def _reach_linf(rate: Tensor, room: Tensor, need: Tensor) -> Tensor:
    return torch.minimum(room, _level(rate, room, need))


def _reach_l2(rate: Tensor, room: Tensor, need: Tensor) -> Tensor:
    stops = room / rate[:, None].clamp_min(torch.finfo(rate.dtype).tiny)
    return torch.minimum(room, _level(rate.square(), stops, need) * rate[:, None])


def _reach_l1(rate: Tensor, room: Tensor, need: Tensor) -> Tensor:
    usable = torch.gt(room, 0, out=torch.empty_like(room)).mul_(rate[:, None])
    count, size = 0, room.shape[-1]
    while count < size:
        count = min(size, max(FEW, 4 * count))
        rates, where = usable.topk(count)
        space = room.gather(-1, where).masked_fill(rates == 0, 0)
        gained = (rates * space).cumsum(-1)
        if bool((gained[..., -1] >= need).all()):
            break
    before = torch.nn.functional.pad(gained[..., :-1], (1, 0))
    left = (need[..., None] - before).clamp_min(0) / rates.clamp_min(torch.finfo(rates.dtype).tiny)
    return torch.zeros_like(room).scatter_(-1, where, torch.minimum(left, space))


def _level(weight: Tensor, stops: Tensor, need: Tensor) -> Tensor:
    """λ [B, P, 1] with Σ weight·min(stops, λ) = need; the largest stop or more where the sum never gets there.

    Newton's method from the left. The sum is concave and made of straight pieces, so no step goes too far, and λ is
    exact once a step has passed no stop.
    """
    numbers = torch.finfo(stops.dtype)
    weight, need = weight[:, None], need[..., None]
    level, slope = torch.zeros_like(need), torch.full_like(need, math.inf)
    passed = torch.empty_like(stops)
    while True:
        for _ in range(ROUNDS):
            before = slope
            slope = torch.gt(stops, level, out=passed).mul_(weight).sum(-1, keepdim=True)
            missing = need - torch.minimum(stops, level, out=passed).mul_(weight).sum(-1, keepdim=True)
            level = level.addcdiv(missing.clamp_min_(0), slope.clamp_min(numbers.tiny)).clamp_(max=numbers.max)
        if not (slope < before).any():
            return level


@dataclass(frozen=True)
class Plane:
    """What a norm asks of hyperplanes.

    Args:
        order: of the norm.
        dual: order of the dual norm.
        reach: from |w| [B, D] up to 1, room [B, P, D] and |gap| [B, P] to the length of each value's change.
    """

    order: float
    dual: float
    reach: Reach


PLANES: dict[str, Plane] = {
    "linf": Plane(math.inf, 1, _reach_linf),
    "l2": Plane(2, 2, _reach_l2),
    "l1": Plane(1, math.inf, _reach_l1),
}
