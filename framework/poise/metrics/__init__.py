"""Metric classes: `update(logits, labels)` on any rank, in any order; states are sums, or gathered values."""

from poise.metrics.accuracy import Accuracy, ClassAccuracy
from poise.metrics.augrc import AreaUnderGeneralisedRiskCoverage
from poise.metrics.aurc import AreaUnderRiskCoverage
from poise.metrics.average_calibration_error import AverageCalibrationError
from poise.metrics.bins import Bins
from poise.metrics.bootstrap import Interval, Resampled, bootstrap
from poise.metrics.brier import Brier
from poise.metrics.brier_terms import BrierTerms
from poise.metrics.calibration_error import CalibrationError
from poise.metrics.classwise_calibration_error import ClasswiseCalibrationError
from poise.metrics.counted import resampled_summaries
from poise.metrics.coverage_at_risk import CoverageAtRisk
from poise.metrics.debiased_calibration_error import DebiasedCalibrationError
from poise.metrics.debiased_squared_calibration_error import DebiasedSquaredCalibrationError
from poise.metrics.equal_mass_calibration_error import EqualMassCalibrationError
from poise.metrics.kde_calibration_error import KDECalibrationError
from poise.metrics.ks_error import KolmogorovSmirnovError
from poise.metrics.maximum_calibration_error import MaximumCalibrationError
from poise.metrics.mmce import MaximumMeanCalibrationError
from poise.metrics.nll import NegativeLogLikelihood
from poise.metrics.risk_at_coverage import RiskAtCoverage
from poise.metrics.root_mean_square_calibration_error import RootMeanSquareCalibrationError
from poise.metrics.skce import BiasedSquaredKernelCalibrationError, SquaredKernelCalibrationError
from poise.metrics.smooth_calibration_error import SmoothCalibrationError
from poise.metrics.sweep_calibration_error import SweepCalibrationError
from poise.metrics.thresholded_classwise_calibration_error import ThresholdedClasswiseCalibrationError
from poise.metrics.total_classwise_calibration_error import TotalClasswiseCalibrationError

__all__ = [
    "Accuracy",
    "AreaUnderGeneralisedRiskCoverage",
    "AreaUnderRiskCoverage",
    "AverageCalibrationError",
    "BiasedSquaredKernelCalibrationError",
    "Bins",
    "Brier",
    "BrierTerms",
    "CalibrationError",
    "ClassAccuracy",
    "ClasswiseCalibrationError",
    "CoverageAtRisk",
    "DebiasedCalibrationError",
    "DebiasedSquaredCalibrationError",
    "EqualMassCalibrationError",
    "Interval",
    "KDECalibrationError",
    "KolmogorovSmirnovError",
    "MaximumCalibrationError",
    "MaximumMeanCalibrationError",
    "NegativeLogLikelihood",
    "Resampled",
    "RiskAtCoverage",
    "RootMeanSquareCalibrationError",
    "SmoothCalibrationError",
    "SquaredKernelCalibrationError",
    "SweepCalibrationError",
    "ThresholdedClasswiseCalibrationError",
    "TotalClasswiseCalibrationError",
    "bootstrap",
    "resampled_summaries",
]
