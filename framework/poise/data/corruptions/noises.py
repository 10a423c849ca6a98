"""Noise of sensors: few photons, heat, broken cells."""

import torch
from jaxtyping import Float
from torch import Tensor

from poise.data.corruptions.draws import Draws

Pictures = Float[Tensor, "B C H W"]


def gaussian_noise(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Normal noise of the same strength everywhere."""
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1] * draws.normal(*x.shape[1:])


def shot_noise(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Photons counted: Poisson noise."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return draws.poisson(photons * x) / photons


def impulse_noise(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Some values are 0 or 1 instead, half of them each."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    chance = draws.uniform(*x.shape[1:])
    return torch.where(chance < share, (chance < share / 2).to(x.dtype), x)


def speckle_noise(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Normal noise, the stronger the brighter."""
    return x + x * (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1] * draws.normal(*x.shape[1:])
