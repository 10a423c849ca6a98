"""Metric classes: `update(logits, labels)` on any rank, in any order; states are sums, or gathered values."""

from poise.metrics.accuracy import Accuracy, ClassAccuracy
from poise.metrics.bins import Bins
from poise.metrics.brier import Brier
from poise.metrics.calibration_error import CalibrationError
from poise.metrics.classwise_calibration_error import ClasswiseCalibrationError
from poise.metrics.equal_mass_calibration_error import EqualMassCalibrationError
from poise.metrics.maximum_calibration_error import MaximumCalibrationError
from poise.metrics.nll import NegativeLogLikelihood

__all__ = [
    "Accuracy",
    "Bins",
    "Brier",
    "CalibrationError",
    "ClassAccuracy",
    "ClasswiseCalibrationError",
    "EqualMassCalibrationError",
    "MaximumCalibrationError",
    "NegativeLogLikelihood",
]
