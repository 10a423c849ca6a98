"""How far confidence is from accuracy, smoothed over the confidence as widely as the error is large."""

import torch
from jaxtyping import Float
from torch import Tensor

from poise.metrics.levels import Levels
from poise.metrics.top_label import SortedMetric

_LEAST, _HALVINGS = 1e-3, 10  # a width below the first is never smoothed by; and how finely it is looked for
_FLOOR = 1e-4  # added to the smoothed number of examples, so that it is above 0 everywhere


class SmoothCalibrationError(SortedMetric):
    """Smooth calibration error (smECE): the gap between confidence and accuracy, blurred in place of bins; in 0…1.

    Błasiok, Nakkiran: Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing, ICLR 2024, arXiv 2309.12236.
    `smooth(width) = integral of |1/N sum_i K_width(t, confidence_i) (confidence_i - correct_i)| over t in 0…1` with a
    Gaussian kernel reflected at 0 and 1; the error is its value at the width at which the two are equal, found to
    1/1024. It is within constant factors of the least change that would calibrate the predictions.

    Departures from the authors' code: none in the numbers. Examples are rounded to a grid that gets finer with the
    width, the smoothed residuals are divided by the smoothed number of examples, to which 1e-4 is added, both as
    there; convolutions are multiplications of spectra.

    Args:
        options: of torchmetrics.Metric.
    """

    def measured(self, levels: Levels) -> Float[Tensor, ""]:
        """The error of the examples at these levels."""
        return smoothed_error(levels, self.width(levels))

    def width(self, levels: Levels) -> float:
        """Where the error smoothed by a width is as large as the width, in 0…1."""
        low, high = 0.0, 1.0
        if _wide_enough(levels, high):
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                low, high = (low, middle) if _wide_enough(levels, middle) else (middle, high)
        return high


def smoothed_error(levels: Levels, width: float) -> Float[Tensor, ""]:
    """The error smoothed by a kernel of this width."""
    grid = max(2000, round(20 / width)) // 2 + 1
    at = torch.linspace(0, 1, max(200, round(10 / width)), dtype=torch.float64, device=levels.confidence.device)
    sums = _on_grid(levels.confidence, torch.stack([levels.residual, levels.counts]), grid)
    residual, counts = _interpolated(_reflected_smooth(sums, width), at)
    return residual.abs().sum() / (counts + _FLOOR).sum()


def _wide_enough(levels: Levels, width: float) -> bool:
    """Whether the error smoothed by a width is no larger than the width."""
    return width >= _LEAST and width >= float(smoothed_error(levels, width))


def _on_grid(at: Float[Tensor, " L"], values: Float[Tensor, "2 L"], size: int) -> Float[Tensor, "2 G"]:
    """Values at places in 0…1, shared out between the neighbouring two of `size` even points."""
    cell = (at * (size - 1)).long().clamp(max=size - 2)
    above = at * (size - 1) - cell
    grid = values.new_zeros(2, size).index_add(1, cell, values * (1 - above))
    return grid.index_add(1, cell + 1, values * above)


def _reflected_smooth(values: Float[Tensor, "2 G"], width: float) -> Float[Tensor, "2 G"]:
    """Even points in 0…1 convolved with a Gaussian density that reaches half as far, mirrored at both ends."""
    size = values.shape[1]
    mirrored = torch.cat([values.flip(1)[:, :-1], values, values.flip(1)[:, 1:]], 1)
    at = torch.linspace(-0.5, 0.5, size, dtype=torch.float64, device=values.device)
    kernel = torch.exp(-at.square() / (2 * width**2)) / (width * (2 * torch.pi) ** 0.5)
    length = 2 ** (mirrored.shape[1] + size - 2).bit_length()  # quick to transform
    spectrum = torch.fft.rfft(mirrored, n=length) * torch.fft.rfft(kernel, n=length)
    start = size - 1 + size // 2
    return torch.fft.irfft(spectrum, n=length)[:, start : start + size]


def _interpolated(values: Float[Tensor, "2 G"], at: Float[Tensor, " T"]) -> Float[Tensor, "2 T"]:
    """Values of even points in 0…1, at places between them."""
    last = values.shape[1] - 1
    cell = (at * last).long().clamp(max=last - 1)
    above = at * last - cell
    return values[:, cell] * (1 - above) + values[:, cell + 1] * above
