"""PGD adversarial training, and the attack of training."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import Batch, RecipeStack, Step, Threat
from poise_recipes import PGD, PGDAT


def setting(seed: int = 0, dropout: float = 0.0) -> tuple[nn.Module, Batch]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))
    return model, Batch.of(torch.rand(8, 5), torch.arange(8) % 3, num_classes=3)


@given(
    norm=st.sampled_from(["linf", "l2", "l1"]),
    eps=st.floats(1e-3, 0.5),
    steps=st.integers(0, 4),
    start=st.sampled_from(["uniform", "normal", "none"]),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_attacked_inputs_stay_in_the_ball_and_the_range(
    norm: str, eps: float, steps: int, start: str, seed: int
) -> None:
    model, b = setting(seed)
    threat = Threat(norm, eps)
    attacked = PGD(steps=steps, start=start).attack(b, Step(model, threat=threat, seed=seed))
    assert attacked.x_adv.min() >= 0
    assert attacked.x_adv.max() <= 1
    assert (threat.distance(attacked.x_adv, b.x) <= eps * (1 + 1e-5)).all()


def test_the_loss_is_the_cross_entropy_on_the_attacked_inputs() -> None:
    model, b = setting()
    stack = RecipeStack([PGDAT()])
    step = Step(model, stack, threat=Threat("linf", 0.1))
    b = stack.attack(b, step)
    expected = nn.functional.cross_entropy(model(b.x_adv), b.label)
    torch.testing.assert_close(stack.loss(b, step)(), expected)
    assert expected > nn.functional.cross_entropy(model(b.x), b.label)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.2), ("l1", 0.2)])
def test_in_each_norm_it_lowers_the_loss_under_attack(norm: str, eps: float) -> None:
    model, b = setting()
    stack = RecipeStack([PGDAT()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for number in range(60):
        step = Step(model, stack, threat=Threat(norm, eps), global_step=number)
        loss = stack.loss(stack.attack(b, step), step)()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_eps_zero_is_standard_training() -> None:
    model, b = setting()
    stack = RecipeStack([PGDAT()])
    step = Step(model, stack, threat=Threat("linf", 0.0))
    assert torch.equal(stack.attack(b, step).x_adv, b.x)


def test_kappa_is_the_share_of_iterates_still_right() -> None:
    model, b = setting()
    step = Step(model, threat=Threat("linf", 0.3))
    iterates = []
    handle = model.register_forward_hook(lambda m, i, o: iterates.append((o.argmax(1) == b.label).float()))
    kappa = PGD(steps=5).attack(b, step).kappa
    handle.remove()
    assert len(iterates) == 5
    torch.testing.assert_close(kappa, torch.stack(iterates).mean(0))


@pytest.mark.parametrize("training", [True, False])
def test_the_attacked_model_is_in_evaluation_mode_and_gets_its_mode_back(training: bool) -> None:
    model, b = setting(dropout=0.5)
    model.train(training)
    modes = []
    model.register_forward_hook(lambda m, i, o: modes.append(m.training))
    PGD(steps=2).attack(b, Step(model))
    assert modes == [False, False]
    assert all(m.training == training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
