"""Ten examples whose every number was computed by hand or by somebody else's code."""

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric

from poise.metrics import (
    Accuracy,
    AreaUnderGeneralisedRiskCoverage,
    AreaUnderRiskCoverage,
    AverageCalibrationError,
    BiasedSquaredKernelCalibrationError,
    Brier,
    BrierTerms,
    CalibrationError,
    ClasswiseCalibrationError,
    CoverageAtRisk,
    DebiasedCalibrationError,
    DebiasedSquaredCalibrationError,
    EqualMassCalibrationError,
    KDECalibrationError,
    KolmogorovSmirnovError,
    MaximumCalibrationError,
    MaximumMeanCalibrationError,
    NegativeLogLikelihood,
    RiskAtCoverage,
    RootMeanSquareCalibrationError,
    SmoothCalibrationError,
    SquaredKernelCalibrationError,
    SweepCalibrationError,
    ThresholdedClasswiseCalibrationError,
    TotalClasswiseCalibrationError,
)
from poise.metrics.levels import Levels

# A tie in confidence at 0.8, one of the two right, and values on the edges of five bins.
PROBABILITIES = [
    (0.90, 0.07, 0.03),
    (0.85, 0.10, 0.05),
    (0.80, 0.15, 0.05),
    (0.70, 0.20, 0.10),
    (0.62, 0.28, 0.10),
    (0.55, 0.25, 0.20),
    (0.48, 0.32, 0.20),
    (0.10, 0.75, 0.15),
    (0.08, 0.12, 0.80),
    (0.30, 0.33, 0.37),
]
LABELS = torch.tensor([0, 0, 1, 0, 0, 2, 0, 1, 2, 1])

NUMBERS: list[tuple[Metric, float | list[float]]] = [
    (Accuracy(), 0.7),
    (CalibrationError(5), 0.098),
    (CalibrationError(10), 0.272),
    (CalibrationError(15), 0.272),
    (MaximumCalibrationError(5, min_count=1), 0.37),
    (MaximumCalibrationError(5, min_count=2), 0.125),
    (AverageCalibrationError(5), 0.144),
    (RootMeanSquareCalibrationError(5), 0.1379782592),
    (DebiasedSquaredCalibrationError(5), -0.064652),
    (DebiasedCalibrationError(5), 0.0726811593),
    (SweepCalibrationError(), 0.032),
    (ClasswiseCalibrationError(3, 5), 0.236 / 3),
    (ClasswiseCalibrationError(3, 10), 0.2153333333),
    (TotalClasswiseCalibrationError(3, 5), 0.236),
    (ThresholdedClasswiseCalibrationError(3, 5), (0.4 / 7 + 0.25 + 0.57 / 2) / 3),
    (EqualMassCalibrationError(5), 0.172),
    (KolmogorovSmirnovError(), 0.053),
    (MaximumMeanCalibrationError(), 0.0496599651),
    (SmoothCalibrationError(), 0.06942895),
    (KDECalibrationError(), 0.07010802),
    (SquaredKernelCalibrationError(3), -0.0360777024),
    (BiasedSquaredKernelCalibrationError(3), 0.0079100678),
    (NegativeLogLikelihood(), 0.6962605511),
    (Brier(), 0.4038),
    (BrierTerms(3, 5), [0.041792, 0.313 / 1.2, 0.62, 0.09862 / 15, 0.056 / 15]),
    (AreaUnderRiskCoverage(), 0.1506746032),
    (AreaUnderGeneralisedRiskCoverage(), 0.1),
    (CoverageAtRisk(0.25), 0.9),
    (CoverageAtRisk(0.1), 0.2),
    (RiskAtCoverage(0.3), 0.25),
]


def logits_of(probabilities: tuple[float, ...]) -> Tensor:
    """Logits whose softmax gives these probabilities: none on an edge of bins lies above it, and ties stay."""
    exact = torch.tensor(probabilities, dtype=torch.float64)
    on_edge = (30 * exact - (30 * exact).round()).abs() < 1e-9  # of 5, 10 or 15 bins
    noise = torch.randn(5000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    near = exact.log() + 5e-16 * noise  # each rounds in its own way
    given, top = near.softmax(-1), exact.argmax()
    below = ((given <= exact) | ~on_edge).all(-1)
    return near[below][given[below][:, top].argmax()]


@pytest.mark.parametrize(("metric", "expected"), NUMBERS, ids=lambda value: type(value).__name__)
def test_ten_examples_by_hand(metric: Metric, expected: float | list[float]) -> None:
    metric.update(torch.stack([logits_of(row) for row in PROBABILITIES]), LABELS)
    assert metric.compute().tolist() == pytest.approx(expected, abs=1e-7)


def test_the_width_of_the_smooth_error() -> None:
    confidence, predicted = torch.tensor(PROBABILITIES, dtype=torch.float64).max(1)
    levels = Levels.of(confidence, (predicted == LABELS).double())
    assert SmoothCalibrationError().width(levels) == 0.0712890625
