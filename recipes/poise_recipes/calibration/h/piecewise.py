"""A line of straight segments, each with a slope of its own."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.h.bent import Bent
from poise_recipes.calibration.h.rows import Rows


@dataclass(frozen=True)
class Piecewise(Bent):
    """Bends log-probabilities by segments whose slopes are free; its parameters are their logarithms.

    Args:
        segments: S, of equal length.
    """

    segments: int
    rate: ClassVar[float] = 0.02

    @property
    def size(self) -> int:
        """A number for each segment."""
        return self.segments

    def start(self, rows: Rows) -> Float[Tensor, " P"]:
        """A straight line."""
        return torch.zeros(self.segments, dtype=torch.float64, device=rows.device)

    def steepness(self, parameters: Float[Tensor, " P"]) -> Float[Tensor, " S"]:
        """Exponentials."""
        return parameters.exp()
