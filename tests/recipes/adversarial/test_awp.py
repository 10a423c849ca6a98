"""AWP's perturbed weights against the formula."""

import pytest
import torch
from torch import nn

from poise import Batch, RecipeStack, Step
from poise_recipes import AWP, Trades

GAMMA = 0.05


def setting() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).double().train()
    b = Batch.of(torch.rand(8, 5, dtype=torch.float64), torch.arange(8) % 3, num_classes=3)
    return model, b.replace(x_adv=(b.x + 0.1).clamp(0, 1))


def loss_by_hand(model: nn.Module, b: Batch) -> torch.Tensor:
    clean, adv = model(b.x), model(b.x_adv)
    p, q = clean.log_softmax(1), adv.log_softmax(1)
    return (-(b.target * p).sum(1) + 6.0 * (p.exp() * (p - q)).sum(1)).mean()


def test_weights_move_by_gamma_times_their_norm_along_the_gradient() -> None:
    model, b = setting()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    gradients = torch.autograd.grad(loss_by_hand(model, b), list(model.parameters()))
    expected = {
        n: w + (GAMMA * w.norm() / g.norm() * g if w.ndim > 1 else 0.0)
        for (n, w), g in zip(before.items(), gradients, strict=True)
    }
    stack = RecipeStack([Trades(), AWP(GAMMA)])
    step = Step(model, stack)
    restore = stack.perturb_weights(stack.loss(b, step), step)
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), expected[n], rtol=0, atol=1e-6)
    restore()
    for n, p in model.named_parameters():
        assert torch.equal(p.detach(), before[n])


def test_the_ascent_leaves_gradients_and_batch_statistics_alone() -> None:
    model, b = setting()
    before = {n: v.clone() for n, v in model.named_buffers()}
    stack = RecipeStack([Trades(), AWP(GAMMA)])
    step = Step(model, stack)
    stack.perturb_weights(stack.loss(b, step), step)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[n]) for n, v in model.named_buffers())


@pytest.mark.parametrize(("gamma", "warmup", "progress"), [(0.0, 0.0, 0.0), (GAMMA, 0.5, 0.4)])
def test_no_gamma_and_no_warm_weights_change_nothing(gamma: float, warmup: float, progress: float) -> None:
    model, b = setting()
    before = [p.detach().clone() for p in model.parameters()]
    stack = RecipeStack([Trades(), AWP(gamma, warmup)])
    step = Step(model, stack, progress=progress)
    stack.perturb_weights(stack.loss(b, step), step)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_the_change_is_seen_under_autocast() -> None:
    """Autocast keeps low-precision copies of weights, which must not outlive a change of the weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))
    b = Batch.of(torch.rand(8, 16), torch.arange(8) % 3, num_classes=3)
    stack = RecipeStack([AWP(0.5)])
    step = Step(model, stack)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = stack.loss(b, step)
        before = loss().item()
        stack.perturb_weights(loss, step)
        after = loss().item()
    assert after > before + 0.05
