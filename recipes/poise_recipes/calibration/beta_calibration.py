"""A curve of three coefficients for each class, which may be a sigmoid, its inverse or the identity."""

import logging
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Gt
from jaxtyping import Bool, Float
from torch import Tensor, inf

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_classes, check_held_out
from poise_recipes.calibration.line_search import descend
from poise_recipes.calibration.one_vs_rest import log_probabilities, log_rest, normalised, occurred, tell_of_few

log = logging.getLogger("poise")

IDENTITY = (1.0, 1.0, 0.0)
FACES = ((False, True, True), (True, False, True), (False, False, True))  # coefficients that are free: a, b, c
LOWEST = -700.0  # logarithm of a probability; about the smallest that double precision has
STEPS = 50  # of Newton's method; ten are usual
GAP = 1e-20  # that a step promises of the objective, at most, where the search is over


class BetaCalibration(Calibrator):
    """Maps each class's probability p to sigmoid(a log p - b log(1 - p) + c), with a, b >= 0, and normalises rows.

    Source: Kull, Silva Filho, Flach, Beyond sigmoids: How to obtain well-calibrated probabilities from binary
    classifiers with beta calibration, 2017, doi 10.1214/17-EJS1338SI. Logits [B, C] go in, log-probabilities
    [B, C] come out. Each class against the rest has coefficients of its own, of which a = b = 1, c = 0 changes
    nothing: the ones with the least negative log-likelihood. Each map never falls, but predictions may change. Below
    twenty examples of a class a warning is logged.

    Departures from the authors' code: many classes, which theirs leaves to others. The negative log-likelihood,
    summed over examples, has a penalty strength · ((a - 1)² + (b - 1)² + c²), so that separable and empty classes
    have an optimum and few examples change little. Where the optimum has a negative coefficient, it is the best one
    that has none; theirs drops one coefficient and takes the other as it comes, negative or not. Logarithms are
    exact where p rounds to 1, down to e^-700 in place of 1e-16. Masked classes are left out.

    Args:
        strength: of the penalty; as it goes to 0 the coefficients become those of Kull et al.
    """

    paper = (
        "Kull et al., Beyond sigmoids: How to obtain well-calibrated probabilities from binary classifiers with beta "
        "calibration, 2017, doi 10.1214/17-EJS1338SI"
    )
    keeps_prediction: ClassVar[bool] = False
    coefficients: Tensor

    def __init__(self, strength: Annotated[float, Gt(0)] = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.register_buffer("coefficients", torch.zeros(0, 3, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "BetaCalibration":
        """Find each class's a, b and c; logs a warning where classes have few examples."""
        check_held_out(held_out)
        tell_of_few("beta_calibration", held_out)
        log_p, rest = _logarithms(log_probabilities(held_out.logits))
        truth, possible = occurred(held_out), held_out.logits != -inf
        found = []
        for k, seen in enumerate(possible.t()):  # one by one: the inputs of a class are three times its logits
            inputs = torch.stack([log_p[seen, k], -rest[seen, k], torch.ones_like(rest[seen, k])], 1)
            found.append(solve(inputs, truth[seen, k], self.strength))
            self.advance(1 / possible.shape[1])
        self.coefficients = torch.stack(found)
        size = len(held_out.label)
        log.info("beta_calibration: %d coefficients from %d examples", self.coefficients.numel(), size)
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        log_p = log_probabilities(logits)
        if not len(self.coefficients):
            return log_p.to(logits.dtype)
        check_classes("beta_calibration", len(self.coefficients), logits)
        a, b, c = self.coefficients.t()
        of_p, of_rest = _logarithms(log_p)
        return normalised(F.logsigmoid(a * of_p - b * of_rest + c), log_p).to(logits.dtype)


def _logarithms(log_p: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    """Those of p and 1 - p, finite."""
    return log_p.clamp(min=LOWEST), log_rest(log_p).clamp(min=LOWEST)


def solve(inputs: Float[Tensor, "M 3"], truth: Bool[Tensor, " M"], strength: float) -> Float[Tensor, "3"]:
    """The a, b >= 0 and c with the least penalised negative log-likelihood.

    Inputs are log p, -log(1 - p) and 1. It is convex. So if its optimum has a negative coefficient, the best point
    that has none lies where a, b or both are 0, and is the optimum there.
    """
    problem = _Problem(inputs, truth, strength)
    found = problem.optimum((True, True, True))
    if (found[:2] >= 0).all():
        return found
    on_faces = [problem.optimum(free) for free in FACES]
    return min((each for each in on_faces if (each[:2] >= 0).all()), key=lambda each: float(problem.value(each)))


class _Problem:
    """Penalised logistic regression of one class."""

    def __init__(self, inputs: Tensor, truth: Tensor, strength: float) -> None:
        self.inputs = inputs
        self.truth = truth.double()
        self.side = 2 * self.truth - 1
        self.strength = strength
        self.identity = inputs.new_tensor(IDENTITY)

    def value(self, coefficients: Tensor) -> Tensor:
        """What is to be small."""
        penalty = self.strength * (coefficients - self.identity).square().sum()
        return penalty - F.logsigmoid(self.side * (self.inputs @ coefficients)).sum()

    def optimum(self, free: tuple[bool, bool, bool]) -> Tensor:
        """The coefficients with the lowest value, those that are not free being 0, by Newton's method."""
        moved = torch.tensor(free, device=self.inputs.device)
        coefficients = self.identity * moved
        for _ in range(STEPS):
            step, fall = self._newton_step(coefficients, moved)
            if fall <= GAP * (1 + self.value(coefficients)):
                break
            further = descend(self.value, (coefficients,), (step,), fall)
            if further is None:
                break
            (coefficients,) = further
        return coefficients

    def _newton_step(self, coefficients: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """What to take from the coefficients, and how far the value falls by its slope."""
        inputs = self.inputs[:, moved]
        probability = (self.inputs @ coefficients).sigmoid()
        gradient = inputs.t() @ (probability - self.truth)
        gradient += 2 * self.strength * (coefficients - self.identity)[moved]
        curvature = (inputs * (probability * (1 - probability))[:, None]).t() @ inputs
        curvature.diagonal().add_(2 * self.strength)
        step = torch.linalg.solve(curvature, gradient)
        return torch.zeros_like(coefficients).masked_scatter(moved, step), step @ gradient
