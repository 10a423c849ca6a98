"""A line whose slope is a small network."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.h.bent import REACH, Bent
from poise_recipes.calibration.h.rows import Rows

CELLS = 1000  # in which the slope is taken as constant: a tenth of a nat each
MIDDLE = 1.5  # log(1 + u) of what is likely lies about as far above this as below


@dataclass(frozen=True)
class Monotone(Bent):
    """Bends log-probabilities by φ(u) = ∫_0^u ELU(network(log(1 + t))) + 1 dt: positive slopes, so φ increases.

    The network is 1 → h → h → 1 with ReLU; its weights and biases, layer by layer, are the parameters.

    Args:
        hidden: h.
    """

    hidden: int
    rate: ClassVar[float] = 0.05

    @property
    def size(self) -> int:
        """Weights and biases."""
        return sum(sum(layer) for layer in self._sizes)

    def start(self, rows: Rows) -> Float[Tensor, " P"]:
        """Hidden layers uniform in ±1/√(inputs), and a last layer of zeros: a straight line."""
        draws = torch.Generator("cpu").manual_seed(0)
        first, second, last = self._sizes
        drawn = torch.rand(sum(first) + sum(second), generator=draws, dtype=torch.float64, device="cpu")
        inner = 2 * drawn.to(rows.device) - 1
        inner[sum(first) :] /= self.hidden**0.5
        return torch.cat([inner, inner.new_zeros(sum(last))])

    def steepness(self, parameters: Float[Tensor, " P"]) -> Float[Tensor, " S"]:
        """The network's answer in the middle of each cell."""
        middle = (torch.arange(CELLS, dtype=parameters.dtype, device=parameters.device) + 0.5) * (REACH / CELLS)
        x = (middle.log1p() - MIDDLE)[:, None]
        sizes = [size for layer in self._sizes for size in layer]
        weight, bias, second_weight, second_bias, last_weight, last_bias = parameters.split(sizes)
        x = F.linear(x, weight[:, None], bias).relu()
        x = F.linear(x, second_weight.view(self.hidden, self.hidden), second_bias).relu()
        return F.elu(F.linear(x, last_weight[None], last_bias))[:, 0] + 1

    @property
    def _sizes(self) -> tuple[tuple[int, int], ...]:
        """Numbers in each layer's weight and bias."""
        return (self.hidden, self.hidden), (self.hidden**2, self.hidden), (self.hidden, 1)
