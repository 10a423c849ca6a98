"""SmoothAdv against its formulas written out again."""

import pytest
import torch
from torch import nn

from poise import Batch, RecipeStack, Step, Threat
from poise.recipe import Passes
from poise.rules import Refusal
from poise_recipes import PGD, GaussianNoise, SmoothAdv

C, SIGMA = 4, 0.25


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, C)).double()


def batch(soft: bool = False) -> Batch:
    g = torch.Generator().manual_seed(0)
    made = Batch.of(torch.rand(6, 5, generator=g, dtype=torch.float64), torch.arange(6) % C, num_classes=C)
    x_adv = (made.x + 0.1 * torch.rand(6, 5, generator=g, dtype=torch.float64)).clamp(0, 1)
    target = torch.rand(6, C, generator=g, dtype=torch.float64).softmax(1) if soft else made.target
    return made.replace(x_adv=x_adv, target=target)


def noises(b: Batch, step: Step, samples: int) -> list[torch.Tensor]:
    return [SIGMA * step.bound("smooth_adv").normal(b, b.x, f"noise {i}") for i in range(samples)]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_the_attack_climbs_the_loss_of_the_mean_probability(samples: int, soft: bool) -> None:
    model, b = network(), batch(soft)
    stack = RecipeStack([SmoothAdv(SIGMA, samples, warmup=0.0)])
    step = Step(model, stack)
    drawn = noises(b, step, samples)
    expected = []
    for row, (x, t) in enumerate(zip(b.attacked, b.target, strict=True)):
        p = sum(torch.exp(z) / torch.exp(z).sum() for z in (model(x + noise[row]) for noise in drawn)) / samples
        expected.append(-(t * torch.log(p)).sum())
    torch.testing.assert_close(stack.inner(b, step)(b.attacked), torch.stack(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_loss_and_gradient_are_the_mean_over_copies_in_the_same_noise(samples: int, soft: bool) -> None:
    model, b = network(), batch(soft)
    stack = RecipeStack([SmoothAdv(SIGMA, samples, warmup=0.0)])
    step = Step(model, stack)
    logs = [model(b.attacked + noise).log_softmax(1) for noise in noises(b, step, samples)]
    expected = -sum((b.target * log).sum(1).mean() for log in logs) / samples
    ours = stack.loss(b, step)()
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    weights = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(ours, weights), torch.autograd.grad(expected, weights))


def test_probabilities_that_vanish_leave_loss_and_gradient_finite() -> None:
    b = batch()
    stack = RecipeStack([SmoothAdv(0.0, 2, warmup=0.0)])
    x = b.x[:, :C].clone().requires_grad_()
    sharp = Step(nn.Linear(C, C, bias=False).double().requires_grad_(False), stack)
    sharp.model.backbone.weight.copy_(1e4 * (1 - torch.eye(C)))
    loss = stack.inner(Batch.of(x.detach(), b.label, C), sharp)(x)
    assert loss.isfinite().all()
    assert torch.autograd.grad(loss.sum(), x)[0].abs().sum() > 0


def test_the_radius_grows_with_the_run() -> None:
    model, b = network(), batch()
    stack = RecipeStack([SmoothAdv(SIGMA, 2, warmup=0.5)])
    whole = RecipeStack([SmoothAdv(SIGMA, 2, warmup=0.0)])
    for progress, share in ((0.0, 0.0), (0.125, 0.25), (0.5, 1.0), (0.75, 1.0)):
        step = Step(model, stack, progress=progress)
        nearer = b.replace(x_adv=b.x + share * (b.attacked - b.x))
        torch.testing.assert_close(stack.loss(b, step)(), whole.loss(nearer, step.replace(stack=whole))())
        inner, expected = stack.inner(b, step), whole.inner(b, step)
        torch.testing.assert_close(inner(b.attacked), expected(nearer.attacked))


def test_in_a_part_of_the_threat_the_attack_is_that_of_a_smaller_threat() -> None:
    model, b = network(), batch().replace(x_adv=None)
    b = b.replace(x=0.5 + 0.1 * b.x)  # the range is far
    growing = RecipeStack([SmoothAdv(SIGMA, 2, warmup=1.0), PGD(steps=4, start="none")])
    whole = RecipeStack([SmoothAdv(SIGMA, 2, warmup=0.0), PGD(steps=4, start="none")])
    step = Step(model, growing, threat=Threat("l2", 0.2), progress=0.25)
    found = growing.attack(b, step).attacked
    expected = whole.attack(b, step.replace(stack=whole, threat=Threat("l2", 0.05))).attacked
    torch.testing.assert_close(b.x + 0.25 * (found - b.x), expected, rtol=0, atol=1e-9)
    assert (whole.inner(b, step)(expected) > whole.inner(b, step)(b.x)).all()


def test_it_brings_an_attack_that_starts_at_the_input_and_counts_every_copy() -> None:
    stack = RecipeStack([SmoothAdv(samples=4)])
    assert stack.names == ("smooth_adv", "pgd")
    attack = stack.owner("attack")[1]
    assert isinstance(attack, PGD)
    assert attack.start == "none"
    assert stack.passes() == Passes(forwards=4 * 10 + 4, input_backwards=4 * 10, full_backwards=4)


def test_no_other_noise_is_added_to_that_of_the_attack() -> None:
    with pytest.raises(Refusal, match=r"smooth_adv cannot train with gaussian_noise.* `noise`"):
        RecipeStack([SmoothAdv(), GaussianNoise()])
