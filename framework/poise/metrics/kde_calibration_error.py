"""How far confidence is from accuracy, with densities in place of bins."""

import torch
from jaxtyping import Float
from torch import Tensor

from poise.metrics.levels import Levels
from poise.metrics.top_label import SortedMetric

_LOW, _HIGH, _POINTS = -0.6, 1.6, 2**14  # of the grid that densities are computed on
_STEP = (_HIGH - _LOW) / (_POINTS - 1)
_LEAST = 1e-6  # density below which accuracy isn't asked for


class KDECalibrationError(SortedMetric):
    """Expected calibration error of the predicted class from kernel density estimates; in 0…1.

    Zhang, Kailkhura, Han: Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in Deep
    Learning, ICML 2020, arXiv 2003.07329. With f the density of confidences and f_1 that of the right predictions',
    `accuracy(x) = P(right) f_1(x) / f(x)` and the error is the integral of `|x - accuracy(x)| f(x)` over 0…1, over
    that of f. Both have triweight kernels with the standard deviation
    `std(confidence of right predictions) (2N)^(-1/5)`, which reach three times as far, and examples are mirrored at
    the nearer of 0 and 1. It smooths over sharp peaks: confidences close to 1 that are calibrated have an error.

    Departures from the authors' code: where f is below 1e-6 the integrand is 0, not what it was before; the kernel is
    no narrower than the grid, which is asked for where no right predictions differ in confidence.

    Args:
        options: of torchmetrics.Metric.
    """

    def measured(self, levels: Levels) -> Float[Tensor, ""]:
        """The error of the examples at these levels."""
        at = torch.linspace(_LOW, _HIGH, _POINTS, dtype=torch.float64, device=levels.confidence.device)
        values = torch.stack([levels.counts, levels.correct])
        density, right = _smoothed(_mirrored_on_grid(levels.confidence, values), _bandwidth(levels)) / levels.size
        accuracy = (right / density).clamp(max=1)
        gaps = torch.where(density > _LEAST, (at - accuracy).abs() * density, 0.0)
        inside = (at >= 0) & (at <= 1)
        return torch.trapezoid(gaps[inside]) / torch.trapezoid(density[inside])


def _bandwidth(levels: Levels) -> float:
    """The standard deviation of the kernel."""
    right = levels.correct.sum().clamp(min=1)
    mean = (levels.correct * levels.confidence).sum() / right
    variance = (levels.correct * (levels.confidence - mean).square()).sum() / right
    return max(float(variance.sqrt() * (2 * levels.size) ** -0.2), _STEP)


def _mirrored_on_grid(at: Float[Tensor, " L"], values: Float[Tensor, "2 L"]) -> Float[Tensor, "2 G"]:
    """Values at places in 0…1 and at their mirror images, shared out between the neighbouring two points."""
    place = (torch.cat([at, torch.where(at < 0.5, -at, 2 - at)]) - _LOW) / _STEP
    cell = place.long()
    above = place - cell
    twice = values.repeat(1, 2)
    grid = values.new_zeros(2, _POINTS).index_add(1, cell, twice * (1 - above))
    return grid.index_add(1, cell + 1, twice * above)


def _smoothed(values: Float[Tensor, "2 G"], deviation: float) -> Float[Tensor, "2 G"]:
    """Values on the grid convolved with a triweight kernel of this standard deviation."""
    reach = 3 * deviation
    side = min(int(reach / _STEP), _POINTS)
    at = torch.arange(-side, side + 1, dtype=torch.float64, device=values.device) * _STEP / reach
    kernel = 35 / 32 * (1 - at.square()) ** 3 / reach
    length = 2 ** (_POINTS + 2 * side - 1).bit_length()  # quick to transform
    spectrum = torch.fft.rfft(values, n=length) * torch.fft.rfft(kernel, n=length)
    return torch.fft.irfft(spectrum, n=length)[:, side : side + _POINTS]
