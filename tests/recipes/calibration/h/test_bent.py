"""What is so for every map that bends log-probabilities by one line."""

import pytest
import torch
from torch import Tensor

from held_out import calibrated_logits
from poise_recipes.calibration.h.bent import REACH, Bent
from poise_recipes.calibration.h.monotone import Monotone
from poise_recipes.calibration.h.piecewise import Piecewise
from poise_recipes.calibration.h.rows import Rows

MADE = calibrated_logits(40, 5)
ROWS = Rows.of(MADE.logits, MADE.label, 1.0)

every_family = pytest.mark.parametrize("family", [Piecewise(1), Piecewise(7), Piecewise(500), Monotone(3)], ids=str)


def moved(family: Bent, seed: int = 0) -> Tensor:
    start = family.start(ROWS)
    return start + torch.randn(len(start), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def line(family: Bent, parameters: Tensor, u: Tensor) -> Tensor:
    """φ as the sum of what each segment gives."""
    steepness = family.steepness(parameters)
    width = REACH / len(steepness)
    begins = torch.arange(len(steepness)) * width
    inside = (u[..., None] - begins).clamp(min=0)
    inside[..., :-1].clamp_(max=width)
    return (steepness * inside).sum(-1)


@every_family
def test_it_starts_straight(family: Bent) -> None:
    log_p = MADE.logits.t()
    torch.testing.assert_close(family.log_probabilities(log_p, family.start(ROWS)), log_p)
    assert len(family.start(ROWS)) == family.size


@every_family
def test_the_map_is_the_sum_of_its_segments(family: Bent) -> None:
    u = torch.linspace(0, 150, 200, dtype=torch.float64).view(5, 40)
    wanted = (-line(family, moved(family), u)).softmax(0)
    torch.testing.assert_close(family.probabilities(-u, moved(family)), wanted)
    torch.testing.assert_close(family.log_probabilities(-u, moved(family)).exp(), wanted)


@every_family
def test_slopes_are_those_of_the_map(family: Bent) -> None:
    u = 120 * torch.rand(5, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 4
    slope = torch.randn(5, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    parameters = moved(family)

    def loss(parameters: Tensor) -> Tensor:
        return ((-line(family, parameters, u)).softmax(0) * slope).sum()

    found = family.slopes(-u, parameters, family.probabilities(-u, parameters), slope)
    torch.testing.assert_close(found, torch.autograd.functional.jacobian(loss, parameters))


@every_family
def test_no_parameters_make_it_fall_or_jump(family: Bent) -> None:
    u = torch.linspace(0, 1.5 * REACH, 30001, dtype=torch.float64)[None]
    below = torch.full_like(u, 400.0)  # a second class, so that one row's logit is told from the other's
    for seed in range(50):
        first, second = family.log_probabilities(-torch.cat([u, below]), moved(family, seed))
        rise = (first - second).diff()
        assert (rise < 0).all()
        steepest = float(family.steepness(moved(family, seed)).max())
        assert float(-rise.min()) <= steepest * 1.5 * REACH / 30000 * (1 + 1e-6) + 1e-9
