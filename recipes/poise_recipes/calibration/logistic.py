"""Multinomial logistic regression to its optimum: coefficients with the least penalised negative log-likelihood."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, inf

from poise_recipes.calibration.line_search import descend

STEPS = 100  # of Newton's method; ten are usual, and every one takes separable classes a nat further apart
PRODUCTS = 500  # of the Hessian in a step
LOOSEST, TIGHTEST = 1e-2, 1e-10  # of the squared gradient, that the conjugate gradients of a step leave
GAP = 1e-12  # of the objective, that Newton's decrement promises at most of the last step
SEPARATED = 1e-12  # an objective so low has no penalty that would keep it from falling to 0


@runtime_checkable
class Design(Protocol):
    """How coefficients [R, C], whose last row is the intercept, make logits [N, C] of inputs [N, C]."""

    def start(self, scale: float) -> Float[Tensor, "R C"]:
        """Coefficients that multiply the inputs by `scale`."""

    def logits(self, coefficients: Float[Tensor, "R C"]) -> Float[Tensor, "N C"]:
        """What the coefficients make of the inputs."""

    def pull(self, slope: Float[Tensor, "N C"]) -> Float[Tensor, "R C"]:
        """The slope along coefficients of what has this slope along logits."""

    def squared(self) -> "Design":
        """The same of squared inputs."""


@dataclass(frozen=True)
class Elementwise:
    """Each class has a factor for its own input, and an intercept: coefficients [2, C]."""

    inputs: Float[Tensor, "N C"]

    def start(self, scale: float) -> Float[Tensor, "2 C"]:
        """Factors `scale`."""
        factors = torch.full_like(self.inputs[0], scale)
        return torch.stack([factors, torch.zeros_like(factors)])

    def logits(self, coefficients: Float[Tensor, "2 C"]) -> Float[Tensor, "N C"]:
        """Inputs · factors + intercepts."""
        factors, intercepts = coefficients
        return self.inputs * factors + intercepts

    def pull(self, slope: Float[Tensor, "N C"]) -> Float[Tensor, "2 C"]:
        """Along factors and intercepts."""
        return torch.stack([(self.inputs * slope).sum(0), slope.sum(0)])

    def squared(self) -> "Elementwise":
        """The same of squared inputs."""
        return Elementwise(self.inputs.square())


@dataclass(frozen=True)
class Full:
    """Each class has a factor for the input of every class, and an intercept: coefficients [C + 1, C]."""

    inputs: Float[Tensor, "N C"]

    def start(self, scale: float) -> Float[Tensor, "R C"]:
        """A multiple of the identity."""
        classes = self.inputs.shape[1]
        return scale * torch.eye(classes + 1, classes, dtype=self.inputs.dtype, device=self.inputs.device)

    def logits(self, coefficients: Float[Tensor, "R C"]) -> Float[Tensor, "N C"]:
        """Inputs × factors + intercepts."""
        return self.inputs @ coefficients[:-1] + coefficients[-1]

    def pull(self, slope: Float[Tensor, "N C"]) -> Float[Tensor, "R C"]:
        """Along factors and intercepts."""
        return torch.cat([self.inputs.t() @ slope, slope.sum(0, keepdim=True)])

    def squared(self) -> "Full":
        """The same of squared inputs."""
        return Full(self.inputs.square())


@torch.no_grad()
def solve(
    design: Design,
    base: Float[Tensor, "N C"],
    label: Int[Tensor, " N"],
    ridge: Float[Tensor, "R C"],
    advance: Callable[[float], None],
) -> tuple[Float[Tensor, "R C"], bool]:
    """What to add to the coefficients that made the logits `base`, and whether that is the optimum.

    It minimises mean_i NLL(softmax(base + design.logits(δ))_i, label_i) + Σ ridge · δ², which is convex, by Newton's
    method from δ = 0, its steps found by conjugate gradients, the more exactly the nearer the optimum is. A class that
    is masked has the base -inf. Without a ridge classes that are separable have no optimum, and the search ends where
    they are separated. Where several δ are optimal, because they give the same probabilities, the one found is of
    little length. `advance` is told of shares of the search that are done, of 1 in all.
    """
    size = len(label)
    own = label[:, None].long()
    delta, logits = torch.zeros_like(ridge), base
    residual, way = LOOSEST, _Way(advance)

    def objective(delta: Tensor, logits: Tensor) -> Tensor:
        return (ridge * delta.square()).sum() - logits.log_softmax(1).gather(1, own).mean()

    for taken in range(STEPS):
        if not ridge.any() and _separated(logits, own):
            break
        probability = logits.softmax(1)
        slope = probability.scatter_add(1, own, torch.full_like(own, -1.0, dtype=logits.dtype)) / size
        gradient = design.pull(slope) + 2 * ridge * delta
        step = _newton_step(design, probability, gradient, ridge, residual)
        fall, value = (step * gradient).sum(), objective(delta, logits)
        if fall <= 2 * GAP * value:
            return delta - step, bool(value > SEPARATED)
        further = descend(objective, (delta, logits), (step, design.logits(step)), fall)
        if further is None:
            break
        delta, logits = further
        promise = float(fall / value)
        residual = min(max(promise, TIGHTEST), LOOSEST)
        way.tell(promise / (2 * GAP), (taken + 1) / STEPS)
    return delta, False


def _separated(logits: Float[Tensor, "N C"], own: Int[Tensor, "N 1"]) -> bool:
    """Whether every example's own class is above all others."""
    others = logits.scatter(1, own, -inf).amax(1, keepdim=True)
    return bool((logits.gather(1, own) > others).all())


@dataclass
class _Way:
    """How far a search is, by the logarithm of how far above the last one's each step's promise is."""

    advance: Callable[[float], None]
    first: float = 0.0
    told: float = 0.0

    def tell(self, above: float, at_least: float) -> None:
        """What a step promised, over what the last one may promise at most; and a share that is done in any case."""
        self.first = self.first or above
        done = max(1 - math.log(above) / math.log(self.first), at_least)
        if done > self.told:
            self.advance(done - self.told)
            self.told = done


def _newton_step(design: Design, probability: Tensor, gradient: Tensor, ridge: Tensor, residual: float) -> Tensor:
    """The inverse Hessian times the gradient, but for a share of it."""
    size = len(probability)

    def product(direction: Tensor) -> Tensor:
        along = design.logits(direction)
        bent = probability * (along - (probability * along).sum(1, keepdim=True))
        return design.pull(bent) / size + 2 * ridge * direction

    diagonal = design.squared().pull(probability * (1 - probability)) / size + 2 * ridge
    return _conjugate_gradients(product, gradient, diagonal, residual)


def _conjugate_gradients(
    product: Callable[[Tensor], Tensor], wanted: Tensor, diagonal: Tensor, residual: float
) -> Tensor:
    """What `product` makes `wanted` of, preconditioned by the diagonal; nothing moves where that is 0.

    It ends when the square of what is left of `wanted`, in the measure of the diagonal, is this share of all.
    """
    scale = torch.where(diagonal > 0, 1 / diagonal, 0.0)
    found, left = torch.zeros_like(wanted), wanted
    direction = scaled = scale * left
    rest = start = (left * scaled).sum()
    for _ in range(PRODUCTS):
        bent = product(direction)
        curvature = (direction * bent).sum()
        if rest <= residual * start or curvature <= 0:
            break
        length = rest / curvature
        found, left = found + length * direction, left - length * bent
        scaled = scale * left
        before, rest = rest, (left * scaled).sum()
        direction = scaled + rest / before * direction
    return found
