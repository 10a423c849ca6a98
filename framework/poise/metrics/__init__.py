"""Metric classes: `update(logits, labels)` on any rank, in any order; states are sums."""

from poise.metrics.accuracy import Accuracy, ClassAccuracy
from poise.metrics.bins import Bins
from poise.metrics.brier import Brier
from poise.metrics.calibration_error import CalibrationError
from poise.metrics.nll import NegativeLogLikelihood

__all__ = ["Accuracy", "Bins", "Brier", "CalibrationError", "ClassAccuracy", "NegativeLogLikelihood"]
