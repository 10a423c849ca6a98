"""Halves of pictures in noise as the loss sees them."""

import pytest
import torch
from torch import nn

from poise import Batch, RecipeStack, Step
from poise.halves import checkerboards, half_in_noise
from poise.rules import Refusal
from poise_recipes import DualSmoothing, GaussianNoise, Trades

SIGMA = 0.2


def setting(rows: int = 64) -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(48, 3)).double()
    return model, Batch.of(torch.rand(rows, 1, 6, 6, dtype=torch.float64), torch.arange(rows) % 3, num_classes=3)


def test_the_loss_is_that_of_one_half_of_each_picture() -> None:
    model, b = setting()
    stack = RecipeStack([DualSmoothing(SIGMA)])
    step = Step(model, stack)
    own = step.bound("dual_smoothing")
    noise = SIGMA * own.normal(b, b.x, "noise")
    is_left = own.uniform(b, b.x.new_empty(len(b), 1, 1, 1), "half")[:, 0, 0, 0] < 0.5
    assert 10 < is_left.sum() < 54  # of 64, beyond which a fair coin is once in 10^8
    left, right = (half_in_noise(b.x, noise, mask) for mask in checkerboards(b.x))
    seen = torch.stack([a if first else z for a, z, first in zip(left, right, is_left, strict=True)])
    torch.testing.assert_close(stack.loss(b, step)(), nn.functional.cross_entropy(model(seen), b.label))


def test_clean_and_attacked_inputs_are_seen_in_the_same_halves() -> None:
    model, b = setting()
    stack = RecipeStack([DualSmoothing(SIGMA), Trades()])
    step = Step(model, stack)
    same = b.replace(x_adv=b.x)
    assert stack.objective(same, step).terms["kl"].abs().max() < 1e-12
    apart = stack.objective(b.replace(x_adv=(b.x + 0.1).clamp(0, 1)), step)
    assert apart.terms["kl"].min() > 0


def test_no_other_noise_reaches_the_network() -> None:
    with pytest.raises(Refusal, match=r"dual_smoothing cannot train with gaussian_noise.* `noise`"):
        RecipeStack([DualSmoothing(), GaussianNoise()])
