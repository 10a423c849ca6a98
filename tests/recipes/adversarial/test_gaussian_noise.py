"""Noise on the inputs of the loss."""

import torch
from torch import nn

from poise import Batch, RecipeStack, Step, Threat
from poise_recipes import AWP, PGDAT, GaussianNoise, Trades

SIGMA = 0.25


def setting(rows: int = 8) -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return model, Batch.of(torch.rand(rows, 5, dtype=torch.float64), torch.arange(rows) % 3, num_classes=3)


def noise(b: Batch, step: Step) -> torch.Tensor:
    return step.bound("gaussian_noise").normal(b, b.x, "noise")


def test_the_loss_is_that_of_noisy_inputs() -> None:
    model, b = setting()
    stack = RecipeStack([GaussianNoise(SIGMA)])
    step = Step(model, stack)
    expected = nn.functional.cross_entropy(model(b.x + SIGMA * noise(b, step)), b.label)
    torch.testing.assert_close(stack.loss(b, step)(), expected, rtol=0, atol=1e-12)
    assert expected != nn.functional.cross_entropy(model(b.x), b.label)


def test_noise_is_standard_normal_and_not_clipped() -> None:
    model, b = setting(4096)
    seen = GaussianNoise(SIGMA).transform("input", b.x, b, Step(model))
    drawn = (seen - b.x) / SIGMA
    assert abs(drawn.mean().item()) < 5 / drawn.numel() ** 0.5
    assert abs(drawn.var().item() - 1) < 5 * (2 / drawn.numel()) ** 0.5
    assert seen.min() < 0
    assert seen.max() > 1


def test_clean_and_attacked_inputs_get_the_same_noise_and_the_next_step_another() -> None:
    model, b = setting()
    stack = RecipeStack([GaussianNoise(SIGMA), Trades(beta=2.0)])
    step = Step(model, stack)
    b = b.replace(x_adv=(b.x + 0.1).clamp(0, 1))
    n = SIGMA * noise(b, step)
    p, q = model(b.x + n).log_softmax(1), model(b.x_adv + n).log_softmax(1)
    expected = (-(b.target * p).sum(1) + 2.0 * (p.exp() * (p - q)).sum(1)).mean()
    torch.testing.assert_close(stack.loss(b, step)(), expected, rtol=0, atol=1e-12)
    assert not torch.equal(noise(b, step), noise(b, step.replace(global_step=1)))


def test_attacks_see_the_model_without_noise() -> None:
    model, b = setting()
    step = Step(model, threat=Threat("linf", 0.1))
    noisy, clean = RecipeStack([GaussianNoise(SIGMA), PGDAT()]), RecipeStack([PGDAT()])
    attacked = noisy.attack(b, step.replace(stack=noisy))
    assert torch.equal(attacked.x_adv, clean.attack(b, step.replace(stack=clean)).x_adv)


def test_both_evaluations_under_perturbed_weights_see_the_same_noise() -> None:
    model, b = setting()
    stack = RecipeStack([GaussianNoise(SIGMA), AWP(0.0)])
    step = Step(model, stack)
    loss = stack.loss(b, step)
    before = loss()
    stack.perturb_weights(loss, step)
    assert torch.equal(loss(), before)


def test_no_sigma_is_plain_training() -> None:
    model, b = setting()
    stack = RecipeStack([GaussianNoise(0.0)])
    assert torch.equal(stack.loss(b, Step(model, stack))(), RecipeStack().loss(b, Step(model))())
