"""The confidence moved by the slope of a spline through what is right beyond it; the other classes follow."""

import logging
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out, keep_prediction
from poise_recipes.calibration.isotonic import interpolated
from poise_recipes.calibration.one_vs_rest import lifted, log_probabilities, mixed_with_uniform

log = logging.getLogger("poise")

EXAMPLES = 10  # for each knot
FEWEST = 2  # knots: a straight line


class Spline(Calibrator):
    """Maps the probability of the predicted class by a spline, and gives what is left to the others as it was shared.

    Source: Gupta, Rahimi, Ajanthan, Mensink, Sminchisescu, Hartley, Calibration of Neural Networks using Splines,
    2021, arXiv 2006.12800. Logits [B, C] go in, log-probabilities [B, C] come out, for any C. Examples in the order of
    their confidence s are at t = 0 … 1. A natural cubic spline H with equally spaced knots is fitted by least squares
    to the sum, as far as t, of 1/N times right (1 or 0) less s. Its slope is by how much accuracy exceeds confidence: s
    + H'(t), which may fall; linear between examples, constant beyond the first and last, kept to 0…1. The predicted
    class never changes, nor does the order of the other classes.

    Departures from the authors' code: theirs gives the confidence alone. Here a row is made of it, so a confidence
    below that of the next class is raised until it is as high. Between examples theirs has the weights of both
    exchanged. Equal confidences, there in any order, get the mean of what they are mapped to. Below ten examples
    for each knot there are fewer knots, two at least. 1/(N + 1) of the uniform distribution is mixed in, for a
    confidence of 1 would make the other labels impossible.

    Args:
        knots: of the spline; 6 is published.
    """

    paper = "Gupta et al., Calibration of Neural Networks using Splines, 2021, arXiv 2006.12800"
    any_classes: ClassVar[bool] = True
    confidence: Tensor
    accuracy: Tensor
    examples: Tensor

    def __init__(self, knots: Annotated[int, Ge(2), Le(1000)] = 6) -> None:
        super().__init__()
        self.knots = knots
        self.register_buffer("confidence", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("accuracy", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("examples", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "Spline":
        """Find the accuracy at each confidence of the calibration split."""
        check_held_out(held_out)
        highest, predicted = log_probabilities(held_out.logits).max(-1)
        confidence, order = highest.exp().sort(stable=True)
        right = predicted.eq(held_out.label)[order].double()
        knots = max(FEWEST, min(self.knots, len(right) // EXAMPLES))
        self.confidence, self.accuracy = merged(confidence, accuracy_of(confidence, right, knots))
        self.examples.fill_(len(right))
        log.info("spline: %d knots from %d examples", knots, len(right))
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        log_p = log_probabilities(logits)
        if not self.examples:
            return keep_prediction(log_p.to(logits.dtype), logits)
        accuracy = interpolated(log_p.amax(-1).exp(), self.confidence, self.accuracy).clamp(0, 1)
        row = lifted(log_p, accuracy)
        return keep_prediction(mixed_with_uniform(row, log_p, int(self.examples)).to(logits.dtype), logits)


def accuracy_of(confidence: Float[Tensor, " N"], right: Float[Tensor, " N"], knots: int) -> Float[Tensor, " N"]:
    """What the spline makes of rising confidences, from which ones were right: s + H'(t)."""
    import numpy as np
    from scipy.interpolate import CubicSpline

    size = len(confidence)
    position = np.linspace(0, 1, size)
    basis = CubicSpline(np.linspace(0, 1, knots), np.eye(knots), bc_type="natural")
    gap = (right - confidence).cumsum(0) / size
    height, *_ = np.linalg.lstsq(basis(position), gap.cpu().numpy(), rcond=None)
    return confidence + torch.from_numpy(basis(position, 1) @ height).to(confidence)


def merged(
    confidence: Float[Tensor, " N"], accuracy: Float[Tensor, " N"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """Rising confidences without repetitions, and the mean accuracy of each."""
    distinct, which, count = confidence.unique_consecutive(return_inverse=True, return_counts=True)
    return distinct, torch.zeros_like(distinct).index_add(0, which, accuracy) / count
