"""A mixture of temperatures."""

import math
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.h.mapping import Mapping
from poise_recipes.calibration.h.noise import share_of_noise
from poise_recipes.calibration.h.rows import Rows

HOTTER = 3  # log of how far the T of label noise starts above that of all labels


@dataclass(frozen=True)
class Mixture(Mapping):
    """Probabilities Σ_k w_k softmax(log p / T_k); its parameters are log 1/T_k and then log w_k, up to a constant.

    Args:
        temperatures: K, two or more.
        lowest: smallest T_k.
        highest: largest T_k.
    """

    temperatures: int
    lowest: float
    highest: float
    rate: ClassVar[float] = 0.05

    @property
    def size(self) -> int:
        """Two numbers for each temperature."""
        return 2 * self.temperatures

    def start(self, rows: Rows) -> Float[Tensor, " P"]:
        """Temperatures around 1 of like weights; where labels are noise one is far hotter and has their share.

        Label noise is a share of the uniform distribution, which the descent would not reach.
        """
        log_inverse = torch.linspace(-1, 1, self.temperatures, dtype=torch.float64, device=rows.device)
        score = torch.zeros_like(log_inverse)
        noise = share_of_noise(rows, log_inverse, -HOTTER)
        if noise is not None:
            log_inverse += noise.log_inverse
            log_inverse[0] = -HOTTER
            score[0] = math.log(noise.share / (1 - noise.share) * (self.temperatures - 1))
        parameters = torch.cat([log_inverse, score])
        self.confine(parameters)
        return parameters

    def probabilities(self, log_p: Float[Tensor, "C N"], parameters: Float[Tensor, " P"]) -> Float[Tensor, "C N"]:
        """Their mixture, one temperature after the other."""
        inverse, weight = self._parts(parameters)
        below = log_p - log_p.amax(0)
        mixed, power = torch.zeros_like(below), torch.empty_like(below)
        for each, share in zip(inverse.tolist(), weight.tolist(), strict=True):
            torch.mul(below, each, out=power).exp_()
            mixed.addcmul_(power, share / power.sum(0))
        return mixed

    def slopes(
        self,
        log_p: Float[Tensor, "C N"],
        parameters: Float[Tensor, " P"],
        probability: Float[Tensor, "C N"],
        slope: Float[Tensor, "C N"],
    ) -> Float[Tensor, " P"]:
        """Along 1/T_k a row gives w_k times the covariance of log p and slope under its softmax.

        Powers are taken again rather than kept, for K times [C, N] would leave the cache.
        """
        inverse, weight = self._parts(parameters)
        below = log_p - log_p.amax(0)
        power, product, pulled = torch.empty_like(below), torch.empty_like(below), slope * below
        along = []
        for each in inverse.tolist():
            total = torch.mul(below, each, out=power).exp_().sum(0)
            mean, both, of_logit = (torch.mul(power, x, out=product).sum(0) / total for x in (slope, pulled, below))
            along.append(torch.stack([mean, both - mean * of_logit]).sum(1, dtype=torch.float64))
        along_weight, along_inverse = torch.stack(along, 1)
        return torch.cat([weight * inverse * along_inverse, weight * (along_weight - weight @ along_weight)])

    def log_probabilities(self, log_p: Float[Tensor, "C N"], parameters: Float[Tensor, " P"]) -> Float[Tensor, "C N"]:
        """Their mixture in logarithms, one temperature after the other: [K, C, N] may not fit."""
        log_inverse, score = parameters.view(2, -1)
        each = zip(log_inverse.exp(), score.log_softmax(0), strict=True)
        return reduce(torch.logaddexp, (weight + (inverse * log_p).log_softmax(0) for inverse, weight in each))

    def confine(self, parameters: Float[Tensor, " P"]) -> None:
        """T_k into its bounds."""
        parameters[: self.temperatures].clamp_(-math.log(self.highest), -math.log(self.lowest))

    def at_bound(self, parameters: Float[Tensor, " P"]) -> bool:
        """Whether a T_k is one of its bounds."""
        bounds = parameters.new_tensor([-math.log(self.highest), -math.log(self.lowest)])
        return bool(torch.isin(parameters[: self.temperatures], bounds).any())

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """1/T [K] and w [K]."""
        log_inverse, score = parameters.view(2, -1)
        return log_inverse.exp(), score.softmax(0)
