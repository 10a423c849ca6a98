"""A mixture of tempered, uncalibrated and uniform probabilities."""

import logging
import math
from collections.abc import Iterator
from functools import reduce
from itertools import combinations
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, inf

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out, keep_prediction
from poise.errors import UserError
from poise_recipes.calibration.line_search import descend
from poise_recipes.calibration.temperature_scaling import solve_temperature, why_no_optimum

log = logging.getLogger("poise")

STEPS = 100  # of Newton's method on a face of the simplex; ten are usual
GAP = 1e-14  # of the mean log-likelihood, that Newton's decrement promises where the search is over
NEVER = -1e300  # log-probability of a masked class where gradients pass: times any 1/T still finite


class EnsembleTemperature(Calibrator):
    """Mixes three distributions: w₁ softmax(z / T) + w₂ softmax(z) + w₃ / C.

    Source: Zhang, Kailkhura, Han, Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in Deep
    Learning, 2020, arXiv 2003.07329 (ETS). Logits [B, C] go in, log-probabilities [B, C] come out, for any C. The
    predicted class never changes, nor does the order of a row's classes unless w₃ = 1. T is that of temperature
    scaling; the weights, none of them negative and 1 in all, then have the least negative log-likelihood on the
    held-out split, which is a convex problem and solved exactly. Temperature scaling and no calibration are among what
    they choose from, so on that split labels are at least as likely as under either.

    Departures from the authors' code: there T and w minimise the squared error, with the likelihood as the other choice
    of its helpers; T is between 0.05 and 5; w comes from a general solver, here from Newton's method on each face of
    the simplex. Classes that are masked have no share of the uniform distribution. Where examples are all predicted
    right there is no best T, and nothing is changed.

    Args:
        lowest: smallest T.
        highest: largest T. Logits that say nothing of the labels would take T to infinity.

    Raises:
        UserError: unless 0 < lowest < highest, both finite.
    """

    paper = (
        "Zhang et al., Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in Deep Learning, "
        "2020, arXiv 2003.07329"
    )
    any_classes: ClassVar[bool] = True
    temperature: Tensor
    weights: Tensor
    hit_bound: Tensor

    def __init__(self, lowest: Annotated[float, Gt(0)] = 0.01, highest: Annotated[float, Gt(0)] = 100.0) -> None:
        super().__init__()
        if not 0 < lowest < highest < math.inf:
            raise UserError(f"lowest={lowest} and highest={highest} of ensemble_temperature: 0 < lowest < highest.")
        self.lowest = lowest
        self.highest = highest
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))
        self.register_buffer("weights", torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
        self.register_buffer("hit_bound", torch.zeros((), dtype=torch.bool))

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "EnsembleTemperature":
        """Find T and the weights; logs a warning where T is not the optimum."""
        check_held_out(held_out)
        logits, label = held_out.logits.detach().double(), held_out.label.long()
        temperature, hit_bound = solve_temperature(logits, label, self.lowest, self.highest)
        self.temperature.fill_(temperature)
        self.hit_bound.fill_(hit_bound)
        own = [part.gather(1, label[:, None])[:, 0] for part in members(logits, self.temperature)]
        self.weights.copy_(mixture_weights(torch.stack(own, 1)))
        log.info("ensemble_temperature: %s from %d examples", self.settled, len(label))
        if self.doubt:
            log.warning("ensemble_temperature: %s", self.doubt)
        return self

    @property
    def settled(self) -> str:
        """The temperature and the three weights."""
        told = ", ".join(f"{weight:.3g}" for weight in self.weights.tolist())
        return f"T = {float(self.temperature):.4g}, w = {told}"

    @property
    def doubt(self) -> str:
        """That T is a bound, or that examples which are all right tell none."""
        return why_no_optimum(float(self.temperature), self.lowest, self.highest) if self.hit_bound else ""

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        each = zip(members(logits.double(), self.temperature), self.weights.log(), strict=True)
        mixed = reduce(torch.logaddexp, (weight + part for part, weight in each))
        return keep_prediction(mixed.masked_fill(logits == -inf, -inf).to(logits.dtype), logits)


def members(
    logits: Float[Tensor, "N C"], temperature: Float[Tensor, ""]
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    """Log-probabilities of the three that are mixed; those of masked classes are finite and mean nothing."""
    plain = logits.log_softmax(-1).clamp(min=NEVER)
    possible = (logits > -inf).sum(-1, keepdim=True)
    return (plain / temperature).log_softmax(-1), plain, -possible.to(plain.dtype).log().expand_as(plain)


@torch.no_grad()
def mixture_weights(log_likelihood: Float[Tensor, "N K"]) -> Float[Tensor, " K"]:
    """Weights [K], ≥ 0 and 1 in all, of the mixture of K distributions under which labels are the most likely.

    The optimum lies inside one face of the simplex, and there nothing changes if its weights may be negative. So the
    optimum is the best of what faces have, each without that bound, among those that turn out to keep to it.
    """
    likelihood = (log_likelihood - log_likelihood.amax(1, keepdim=True)).exp()
    least, best = inf, torch.zeros_like(likelihood[0])
    for face in _faces(likelihood.shape[1]):
        found = torch.zeros_like(best)
        found[face] = _on_face(likelihood[:, face])
        nll = -float((likelihood @ found).log().mean())
        if found.min() >= 0 and nll < least:
            least, best = nll, found
    return best


def _faces(count: int) -> Iterator[list[int]]:
    """Of the simplex, by the numbers of their corners, smaller ones first."""
    for size in range(1, count + 1):
        yield from map(list, combinations(range(count), size))


def _on_face(likelihood: Tensor) -> Tensor:
    """Weights [K] with the least Σw - mean log(likelihood · w), which are 1 in all, by Newton's method."""
    weights = torch.full_like(likelihood[0], 1 / likelihood.shape[1])
    if len(weights) == 1:
        return weights

    def objective(weights: Tensor) -> Tensor:
        return weights.sum() - (likelihood @ weights).log().mean()

    for _ in range(STEPS):
        share = likelihood / (likelihood @ weights)[:, None]
        gradient = 1 - share.mean(0)
        step = torch.linalg.pinv(share.t() @ share / len(share), hermitian=True) @ gradient
        fall = gradient @ step
        further = descend(objective, (weights,), (step,), fall)
        if fall <= 2 * GAP or further is None:
            break
        (weights,) = further
    return weights / weights.sum()
