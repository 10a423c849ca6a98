"""AWP's perturbed weights against the formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from poise import Batch, RecipeStack, Step
from poise.recipe import Recipe
from poise_recipes import AWP, MART, PGDAT, WEAT, EntropyPenalty, Trades

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


HOSTS: list[list[Recipe]] = [[PGDAT()], [Trades()], [MART()], [WEAT(), Trades()], [PGDAT(), EntropyPenalty(weight=1.0)]]


def moved(stack: RecipeStack, model: nn.Module, b: Batch) -> dict[str, Tensor]:
    """How far each parameter goes in the ascent."""
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    step = Step(model, stack)
    stack.perturb_weights(stack.loss(b, step), step)
    return {n: p.detach() - before[n] for n, p in model.named_parameters()}


@given(st.sampled_from(range(len(HOSTS))), st.floats(1e-4, 2), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_a_weight_tensor_moves_by_gamma_of_its_norm_and_nothing_else_moves(host: int, gamma: float, seed: int) -> None:
    torch.manual_seed(seed)
    model, b = setting()
    norms = {n: float(p.detach().norm()) for n, p in model.named_parameters()}
    for name, change in moved(RecipeStack([*HOSTS[host], AWP(gamma)]), model, b).items():
        expected = gamma * norms[name] if change.ndim > 1 else 0.0
        assert float(change.norm()) == pytest.approx(expected, rel=1e-9)


def test_frozen_weights_stay() -> None:
    model, b = setting()
    model[0].weight.requires_grad_(False)
    changes = moved(RecipeStack([Trades(), AWP(GAMMA)]), model, b)
    assert changes["0.weight"].abs().max() == 0
    assert changes["3.weight"].abs().max() > 0


def stepped(recipes: list[Recipe]) -> dict[str, Tensor]:
    """All that a step of descent leaves of the model, in the order that the training module has."""
    model, b = setting()
    stack = RecipeStack(recipes)
    step = Step(model, stack)
    loss = stack.loss(b, step)
    restore = stack.perturb_weights(loss, step)
    slopes = torch.autograd.grad(loss(), list(model.parameters()))
    restore()
    with torch.no_grad():
        for weight, slope in zip(model.parameters(), slopes, strict=True):
            weight -= 0.1 * slope
    return {n: v.detach().clone() for n, v in model.state_dict().items()}


def test_without_gamma_a_step_is_the_hosts_and_so_are_its_batch_statistics() -> None:
    without, none = stepped([Trades()]), stepped([Trades(), AWP(0.0)])
    assert all(torch.equal(value, none[name]) for name, value in without.items())


def test_a_step_goes_down_from_where_it_was_along_the_gradient_further_up() -> None:
    model, b = setting()
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    moved(RecipeStack([Trades(), AWP(GAMMA)]), model, b)
    slopes = torch.autograd.grad(loss_by_hand(model, b), list(model.parameters()))
    after = stepped([Trades(), AWP(GAMMA)])
    for (name, value), slope in zip(start.items(), slopes, strict=True):
        torch.testing.assert_close(after[name], value - 0.1 * slope, rtol=0, atol=1e-9)


def test_weights_of_examples_are_those_at_the_unperturbed_weights() -> None:
    model, b = setting()
    model.eval()  # batch statistics move nothing
    stack = RecipeStack([WEAT(), Trades(), AWP(0.5)])
    step = Step(model, stack)
    energies = -model(b.x).detach().exp().sum(1).log()
    loss = stack.loss(b, step)
    stack.perturb_weights(loss, step)
    host = RecipeStack([Trades()])
    expected = host.objective(b, Step(model, host)).loss / (1 + energies.abs().exp()).log()
    torch.testing.assert_close(loss(), expected.mean())
