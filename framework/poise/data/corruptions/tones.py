"""Light and weather: brightness, contrast, saturation, fog."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from poise.data.corruptions.draws import Draws

Pictures = Float[Tensor, "B C H W"]


def brightness(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """The brightest channel of each pixel is raised, and the others in proportion: HSV's value."""
    value = x.amax(1, keepdim=True)
    raised = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.clamp(min=1e-12)), raised)


def contrast(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """Each channel comes closer to its mean."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] * (x - mean)


def saturate(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """HSV's saturation is multiplied and raised; what has no hue is red, and pictures of one channel stay."""
    if x.shape[1] == 1:
        return x
    factor, more = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[severity - 1]
    value = x.amax(1, keepdim=True)
    depth = value - x
    saturation = depth.amax(1, keepdim=True) / value.clamp(min=1e-12)
    red = torch.tensor([0, 1, 1], dtype=x.dtype).view(1, 3, 1, 1) * value
    hue = torch.where(saturation > 0, depth / saturation.clamp(min=1e-12), red)
    return value - (factor * saturation + more).clamp(0, 1) * hue


def fog(x: Pictures, severity: int, draws: Draws) -> Pictures:
    """A light cloud before the picture."""
    thickness, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    height, width = x.shape[2:]
    cloud = plasma(2 ** math.ceil(math.log2(max(height, width, 32))), decay, draws)
    most = x.amax((1, 2, 3), keepdim=True)
    return (x + thickness * cloud[:, None, :height, :width]) * most / (most + thickness)


def plasma(size: int, decay: float, draws: Draws) -> Float[Tensor, "B size size"]:
    """Clouds in 0…1 that repeat at their borders, by the diamond-square algorithm.

    A. Fournier, D. Fussell, L. Carpenter, Computer Rendering of Stochastic Models, 1982, doi 10.1145/358523.358553.

    Args:
        size: a power of two.
        decay: how much smoother each finer scale is.
        draws: give each point its number.
    """
    noise = 2 * draws.uniform(size, size) - 1
    cloud = torch.zeros_like(noise)
    step, roughness = size, 100.0
    while step >= 2:
        half = step // 2
        corner, middle = cloud[:, ::step, ::step], (slice(None), slice(half, None, step), slice(half, None, step))
        pairs = corner + corner.roll(-1, 1)
        cloud[middle] = (pairs + pairs.roll(-1, 2)) / 4 + roughness**2 * noise[middle]
        centre = cloud[middle]
        across, down = (slice(None), slice(0, None, step), middle[2]), (slice(None), middle[1], slice(0, None, step))
        sides = corner + corner.roll(-1, 2) + centre + centre.roll(1, 1)
        edges = corner + corner.roll(-1, 1) + centre + centre.roll(1, 2)
        cloud[across] = sides / 4 + roughness**2 * noise[across]
        cloud[down] = edges / 4 + roughness**2 * noise[down]
        step, roughness = half, roughness / decay
    low, high = cloud.amin((1, 2), keepdim=True), cloud.amax((1, 2), keepdim=True)
    return (cloud - low) / (high - low)
