"""The scores of predictions that reports compare calibrators by."""

import math
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from poise.meanings import meaning
from poise.metrics.accuracy import Accuracy
from poise.metrics.bins import Bins
from poise.metrics.brier import Brier
from poise.metrics.calibration_error import CalibrationError
from poise.metrics.classwise_calibration_error import ClasswiseCalibrationError
from poise.metrics.equal_mass_calibration_error import EqualMassCalibrationError
from poise.metrics.maximum_calibration_error import MaximumCalibrationError
from poise.metrics.nll import NegativeLogLikelihood


@dataclass(frozen=True)
class Summary:
    """Scores by name, those that are numbers, what each means, and the bins that `ece` was computed from."""

    scores: dict[str, float]
    bins: Bins
    meanings: dict[str, str]


def summarised(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"], bins: int = 15) -> Summary:
    """Accuracy, NLL (nats), Brier score, calibration errors and mean confidence of all examples there are.

    Args:
        logits: of every rank, the same on each.
        labels: in 0…C-1.
        bins: of the calibration errors.
    """
    whole: dict[str, Any] = {"sync_on_compute": False}  # nothing is added up over ranks once more
    ece = CalibrationError(bins, **whole)
    measures = {
        "accuracy": Accuracy(**whole),
        "nll": NegativeLogLikelihood(**whole),
        "brier": Brier(**whole),
        "ece": ece,
        "ece_equal_mass": EqualMassCalibrationError(bins, **whole),
        "classwise_ece": ClasswiseCalibrationError(logits.shape[1], bins, **whole),
        "mce": MaximumCalibrationError(bins, **whole),
    }
    for measure in measures.values():
        measure.add(logits, labels)
    scores = {name: float(measure.compute()) for name, measure in measures.items()}
    scores["confidence"] = float(logits.double().softmax(1).amax(1).mean())
    meanings = {name: meaning(measure) for name, measure in measures.items()}
    meanings["confidence"] = "Mean probability of the predicted class"
    return Summary({name: score for name, score in scores.items() if not math.isnan(score)}, ece.bins, meanings)
