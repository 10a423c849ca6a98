"""One number that divides all logits."""

import logging
import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from jaxtyping import Float, Int
from torch import Tensor, inf

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out, keep_prediction
from poise.errors import UserError

log = logging.getLogger("poise")

STEPS = 96  # at most: by two of them a bracket, 9.2 wide by default, is halved, and ten are usual
CLOSE = 1e-13  # a step of log T as short as this is the last
TINY = 1e-300  # curvature in place of none, with which a step leads out of the bracket


class TemperatureScaling(Calibrator):
    """Divides the logits by the temperature T with the least negative log-likelihood on the held-out split.

    Source: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599,
    equation 9. Logits [B, C] go in, log-probabilities [B, C] come out, for any C. The predicted class never changes.
    Departures from the authors' code: there L-BFGS steps on T, which may stop far away or at a negative T; here
    the derivative of the loss, which is convex in 1/T, is solved for zero in float64 by Newton's method on log 1/T
    in a bracket, which is halved where a step leads out of it or is not half as long as the one before. Examples that
    are all predicted right are the likelier the smaller T is, down to 0, where one mistake among new ones costs the
    more: there is no optimum, and T stays 1.

    Args:
        lowest: smallest T.
        highest: largest T. Logits that say nothing of the labels would take T to infinity.

    Raises:
        UserError: unless 0 < lowest < highest, both finite.
    """

    paper = "Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599"
    default: ClassVar[bool] = True
    any_classes: ClassVar[bool] = True
    temperature: Tensor
    hit_bound: Tensor

    def __init__(self, lowest: Annotated[float, Gt(0)] = 0.01, highest: Annotated[float, Gt(0)] = 100.0) -> None:
        super().__init__()
        if not 0 < lowest < highest < math.inf:
            raise UserError(f"lowest={lowest} and highest={highest} of temperature_scaling: 0 < lowest < highest.")
        self.lowest = lowest
        self.highest = highest
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))
        self.register_buffer("hit_bound", torch.zeros((), dtype=torch.bool))

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "TemperatureScaling":
        """Find T; logs a warning where it is not the optimum."""
        check_held_out(held_out)
        temperature, hit_bound = solve_temperature(held_out.logits.detach(), held_out.label, self.lowest, self.highest)
        self.temperature.fill_(temperature)
        self.hit_bound.fill_(hit_bound)
        size = len(held_out.label)
        log.info("temperature_scaling: %s from %d examples", self.settled, size)
        if self.doubt:
            log.warning("temperature_scaling: %s", self.doubt)
        return self

    @property
    def settled(self) -> str:
        """The temperature."""
        return f"T = {float(self.temperature):.4g}"

    @property
    def doubt(self) -> str:
        """That T is a bound, or that examples which are all right tell none."""
        return why_no_optimum(float(self.temperature), self.lowest, self.highest) if self.hit_bound else ""

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        calibrated = (logits.double() / self.temperature).log_softmax(-1).to(logits.dtype)
        return keep_prediction(calibrated, logits)


@torch.no_grad()
def solve_temperature(
    logits: Float[Tensor, "N C"], label: Int[Tensor, " N"], lowest: float, highest: float
) -> tuple[float, bool]:
    """The T in lowest…highest with the least negative log-likelihood, and whether that would fall on beyond them.

    Where examples that are all predicted right have it fall to T = 0, it is not followed: T is 1, or next to it.
    """
    if all_right(logits, label):
        return min(max(1.0, lowest), highest), True
    logits = logits.double()
    own = logits.gather(1, label[:, None].long())
    excess = (logits - own).masked_fill(logits == -inf, 0.0)

    def slopes(log_inverse: float) -> tuple[float, float]:
        """Both derivatives of the loss with respect to 1/T."""
        weighted = (logits * math.exp(log_inverse)).softmax(-1).mul_(excess)
        mean = weighted.sum(-1)
        return float(mean.mean()), float((weighted.mul_(excess).sum(-1) - mean.square()).mean())

    low, high = -math.log(highest), -math.log(lowest)
    if slopes(low)[0] >= 0:
        return highest, True
    if slopes(high)[0] <= 0:
        return lowest, True
    place, reach = min(max(0.0, low), high), high - low
    for _ in range(STEPS):
        slope, curvature = slopes(place)
        low, high = (low, place) if slope > 0 else (place, high)
        further = place - slope / max(curvature * math.exp(place), TINY)
        if not low <= further <= high or abs(further - place) > reach / 2:
            further = (low + high) / 2
        place, reach = further, abs(further - place)
        if reach < CLOSE:
            break
    return math.exp(-place), False


def all_right(logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> bool:
    """Whether no class has a higher logit than its row's label: the smaller T, the likelier are such labels."""
    return bool((logits <= logits.gather(1, label[:, None].long())).all())


def why_no_optimum(temperature: float, lowest: float, highest: float) -> str:
    """In a few words, why `solve_temperature` found no T at which the negative log-likelihood is least."""
    if lowest < temperature < highest:
        return f"every example is predicted right, which tells no temperature: T stays {temperature:g}"
    return f"T = {temperature:g} is a bound of {lowest:g}…{highest:g}"
