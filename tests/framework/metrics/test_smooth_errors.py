"""Smoothed errors against sums over every example, without a grid."""

import math

import pytest
import torch
from torch import Tensor

from poise.metrics import KDECalibrationError, SmoothCalibrationError
from poise.metrics.levels import Levels
from poise.metrics.smooth_calibration_error import smoothed_error


def task(size: int) -> tuple[Tensor, Tensor]:
    keyed = torch.Generator().manual_seed(0)
    confidence = 0.3 + 0.7 * torch.rand(size, generator=keyed, dtype=torch.float64).sqrt()
    return confidence, (torch.rand(size, generator=keyed, dtype=torch.float64) < confidence**2).double()


@pytest.mark.parametrize("width", [0.02, 0.1, 0.3])
def test_the_smooth_error_is_the_integral_of_smoothed_residuals(width: float) -> None:
    """A Gaussian of this width, mirrored at 0 and 1, up to 0.5 from its centre; the grid's last points count once."""
    confidence, correct = task(300)
    at = torch.linspace(0, 1, max(200, round(10 / width)), dtype=torch.float64)[:, None]
    apart = torch.stack([at - confidence, at + confidence, 2 - at - confidence])
    kernel = torch.where(apart.abs() <= 0.5, (-apart.square() / (2 * width**2)).exp(), 0.0).sum(0)
    expected = (kernel @ (confidence - correct)).abs().sum() / kernel.sum()
    assert float(smoothed_error(Levels.of(confidence, correct), width)) == pytest.approx(float(expected), abs=3e-4)


def test_the_width_is_where_the_error_is_as_large() -> None:
    levels = Levels.of(*task(300))
    width = SmoothCalibrationError().width(levels)
    assert float(smoothed_error(levels, width)) <= width
    assert float(smoothed_error(levels, width - 1 / 1024)) >= width - 1 / 1024


def test_an_error_of_one_is_the_widest() -> None:
    levels = Levels.of(torch.ones(20, dtype=torch.float64), torch.zeros(20, dtype=torch.float64))
    assert SmoothCalibrationError().width(levels) == pytest.approx(1, abs=1e-3)
    assert float(SmoothCalibrationError().measured(levels)) == pytest.approx(1, abs=1e-3)


def test_the_density_error_is_the_integral_of_densities() -> None:
    confidence, correct = task(300)
    spread = float(confidence[correct == 1].std(correction=0)) * 600**-0.2
    at = torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None]
    mirrored = torch.where(confidence < 0.5, -confidence, 2 - confidence)
    kernel = sum((1 - ((at - each) / (3 * spread)).square()).clamp(min=0) ** 3 for each in (confidence, mirrored))
    density, right = kernel.sum(1), kernel @ correct
    gaps = torch.where(density > 1e-6, (at[:, 0] - right / density).abs() * density, 0.0)
    expected = float(gaps.sum() / density.sum())
    assert float(KDECalibrationError().measured(Levels.of(confidence, correct))) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("correct", "expected"), [(0.0, 0.8), (1.0, 0.2)])
def test_the_density_error_of_one_confidence_is_its_gap(correct: float, expected: float) -> None:
    levels = Levels.of(torch.full((9,), 0.8, dtype=torch.float64), torch.full((9,), correct, dtype=torch.float64))
    assert float(KDECalibrationError().measured(levels)) == pytest.approx(expected, abs=1e-3)


def test_no_error_where_full_confidence_is_right() -> None:
    levels = Levels.of(torch.ones(9, dtype=torch.float64), torch.ones(9, dtype=torch.float64))
    assert float(SmoothCalibrationError().measured(levels)) == 0
    assert float(KDECalibrationError().measured(levels)) == pytest.approx(0, abs=3e-4)
    assert not math.isnan(SmoothCalibrationError().width(levels))
