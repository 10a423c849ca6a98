from collections.abc import Callable
from contextlib import nullcontext
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from live_tensors import live_bytes
from poise.attacks.apgd_targeted import most_likely_wrong
from poise.attacks.attack import Attack, is_right
from poise.attacks.boundary import BoundaryAttack
from poise.attacks.draws import Draws
from poise.attacks.fab import FAB
from poise.attacks.fab_targeted import TargetedFAB
from poise.attacks.hyperplanes import PLANES, change_to, length
from poise.attacks.threat import Threat
from poise.attacks.work import counted
from poise.errors import UserError

norms = pytest.mark.parametrize("norm", sorted(PLANES))
kinds = pytest.mark.parametrize("kind", [FAB, TargetedFAB])
EPS = {"linf": 0.08, "l2": 0.2, "l1": 0.5}


class Curved(nn.Module):
    """Four classes with curved boundaries between them."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(12, 24), nn.Tanh(), nn.Dropout(), nn.Linear(24, 4)).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.net(4 * x - 2)


class Flat(nn.Module):
    """A linear model."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn(classes, 12, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T


def data(model: nn.Module, rows: int = 30, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Inputs, nine of ten labelled as they are predicted."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(rows, 3, 2, 2, generator=generator, dtype=torch.float64).to(dtype)
    with torch.no_grad():
        y = model.eval()(x).argmax(1)
    y[::10] = (y[::10] + 1) % 4
    return x, y


@kinds
@norms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_it_finds_is_wrong_and_permitted_and_the_rest_is_left(
    kind: type[BoundaryAttack], norm: str, dtype: torch.dtype
) -> None:
    model = Curved(dtype)
    x, y = data(model, dtype=dtype)
    threat = Threat(norm, EPS[norm])
    x_adv = kind(threat, steps=20)(model, x, y)
    was, stays = is_right(model, x, y), is_right(model, x_adv, y)
    assert 3 < (was & ~stays).sum() < 27
    assert x_adv.dtype == dtype
    assert (threat.distance(x_adv, x) <= threat.eps * (1 + 1e-6)).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert torch.equal(x_adv[stays | ~was], x[stays | ~was])


@kinds
@norms
def test_on_a_linear_model_it_finds_the_closed_form_distance(kind: type[BoundaryAttack], norm: str) -> None:
    model = Flat(2)
    x, y = data(model, rows=12)
    y, threat = y.clamp(max=1), Threat(norm, 0.1, low=None, high=None)
    normal = model.weight[1] - model.weight[0]
    expected = ((x.flatten(1) - 0.5) @ normal).abs() / torch.linalg.vector_norm(normal, PLANES[norm].dual)
    right = is_right(model, x, y)
    attack = kind(threat, steps=40, restarts=1)
    found, distance = attack(model, x, y), attack.nearest(model, x, y)[1]
    # a walk stops a little beyond the boundary, the overshoot of its last step
    assert (distance[right] >= expected[right]).all()
    torch.testing.assert_close(distance[right], expected[right], rtol=1e-2, atol=0)
    assert not distance[~right].any()
    sure = (expected / threat.eps - 1).abs() > 0.02
    assert torch.equal(is_right(model, found, y)[sure], (right & (expected > threat.eps))[sure])


@norms
def test_in_a_range_and_among_several_classes_it_finds_the_nearest(norm: str) -> None:
    model = Flat(4)
    x, y = data(model, rows=12)
    right = is_right(model, x, y)
    for kind in (FAB, TargetedFAB):
        near, distance = kind(Threat(norm, 0.1), steps=100, restarts=1).nearest(model, x, y)
        assert not is_right(model, near, y)[right].any()
        expected = torch.tensor(
            [[nearest_to(norm, model.weight, x[i], y[i], k) for k in range(4)] for i in range(12)]
        ).double()
        torch.testing.assert_close(distance[right], expected.amin(1)[right], rtol=2e-2, atol=0)
        torch.testing.assert_close(distance, Threat(norm, 0.1).distance(near, x))


def nearest_to(norm: str, weight: Tensor, x: Tensor, y: Tensor, other: int) -> float:
    """How far an input of a linear model is from a class, in a range, by the hyperplane between the two."""
    if other == int(y):
        return float("inf")
    normal = (weight[other] - weight[y]).detach()[None]
    gap = -(normal @ (x.flatten() - 0.5))[None]
    change = change_to(norm, x.flatten()[None, None], normal, gap, 0.0, 1.0)
    reached = torch.isclose((normal[:, None] * change).sum(-1), gap)
    return float(length(norm, change)) if reached else float("inf")


@kinds
def test_an_example_does_not_depend_on_batch_and_order(kind: type[BoundaryAttack]) -> None:
    model = Curved()
    x, y = data(model)
    attack = kind(Threat("linf", 0.1), steps=10, restarts=2)
    index = torch.arange(100, 130)
    whole = attack(model, x, y, seed=3, index=index)
    order = torch.tensor([17, 2, 9, 4])
    part = attack(model, x[order], y[order], seed=3, index=index[order])
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-9)
    small = kind(Threat("linf", 0.1), steps=10, restarts=2, memory=1)
    torch.testing.assert_close(small(model, x, y, seed=3, index=index), whole, rtol=0, atol=1e-9)


class Wall(nn.Module):
    """Of two classes, with a gradient only away from the middle: a walk from the middle goes nowhere."""

    def forward(self, x: Tensor) -> Tensor:
        height = (x.flatten(1) - 0.5).square().sum(1)
        return torch.stack([-height, height - 0.02], 1)


@norms
def test_restarts_begin_elsewhere_and_follow_seed_and_index(norm: str) -> None:
    x, y = torch.full((6, 12), 0.5, dtype=torch.float64), torch.zeros(6, dtype=torch.int64)
    threat = Threat(norm, 0.4 if norm == "linf" else 1.2)
    assert is_right(Wall(), FAB(threat, restarts=1)(Wall(), x, y), y).all()
    found = FAB(threat, restarts=2)(Wall(), x, y)
    assert not is_right(Wall(), found, y).any()
    assert len(found.unique(dim=0)) == 6
    assert torch.equal(found, FAB(threat, restarts=2)(Wall(), x, y, index=torch.arange(6)))
    assert not torch.isclose(found, FAB(threat, restarts=2)(Wall(), x, y, seed=1)).all(-1).any()


def test_passes_are_those_of_its_docstring_and_what_broke_has_left() -> None:
    model = Curved()
    x, y = data(model, rows=1)
    y = 0 * y + model(x).argmax(1)
    far = Threat("linf", 1e-6)  # nothing breaks
    with counted(model) as targeted:
        TargetedFAB(far, targets=2, steps=7).search(model, x, y, draws_of(1))
    assert (targeted.forwards, targeted.backwards) == (1 + 2 * 7 * 2, 2 * 7)
    with counted(model) as untargeted:
        FAB(far, steps=7, restarts=1).search(model, x, y, draws_of(1))
    assert (untargeted.forwards, untargeted.backwards) == (2 * 7, 3 * 7)
    with counted(model) as quick:
        TargetedFAB(Threat("linf", 0.5), targets=2, steps=100).search(model, x, y, draws_of(1))
    assert quick.backwards < 20


def draws_of(rows: int) -> Draws:
    return Draws.of(0, torch.arange(rows))


def test_targets_are_the_likeliest_wrong_classes_as_many_as_there_are() -> None:
    model = Curved()
    x, y = data(model)
    ranked = most_likely_wrong(model, x, y, 9)
    assert ranked.shape == (3, 30)
    assert not (ranked == y).any()
    logits = model(x).gather(1, ranked.T)
    assert (logits.diff(dim=1) <= 0).all()


@kinds
@pytest.mark.parametrize("around", [nullcontext, torch.no_grad, torch.inference_mode])
def test_it_works_wherever_it_is_called_and_leaves_nothing_behind(kind: type[Attack], around: Any) -> None:
    model = Curved()
    x, y = data(model)
    model.train()
    attack = kind(Threat("linf", 0.1), steps=5)
    with around():
        x_adv = attack(model, x.clone(), y.clone())
    assert not x_adv.is_inference()
    assert not x_adv.requires_grad
    assert torch.equal(x_adv, attack(model, x, y))
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("make", [lambda threat: FAB(threat, 50, 1), lambda threat: TargetedFAB(threat, 1, 50)])
def test_memory_does_not_grow_with_steps(make: Callable[[Threat], BoundaryAttack]) -> None:
    model = Curved()
    x, y = data(model)
    calls, held = count(), {}

    def look(*_: object) -> None:
        if (call := next(calls)) in {20, 21, 22, 23, 90, 91, 92, 93}:
            held[call] = live_bytes()

    model.register_forward_hook(look)
    make(Threat("linf", 1e-6))(model, x, y)
    early, late = sorted(held)[:4], sorted(held)[4:]
    assert len(late) == 4
    assert max(held[call] for call in late) <= max(held[call] for call in early)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda threat: FAB(threat, steps=0), "steps=0 of fab is not a whole number >= 1"),
        (lambda threat: TargetedFAB(threat, restarts=0), "restarts=0 of fab-t is not a whole number >= 1"),
        (lambda threat: TargetedFAB(threat, targets=0), "targets=0 of fab-t is not a whole number >= 1"),
    ],
)
def test_wrong_parameters_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(Threat("linf", 0.1))


@kinds
def test_a_model_without_a_gradient_is_refused(kind: type[Attack]) -> None:
    model = Curved()
    x, y = data(model)
    model.register_forward_hook(lambda _, __, logits: logits.detach())
    with pytest.raises(UserError, match="no gradient with respect to its inputs"):
        kind(Threat("linf", 0.1))(model, x, y)


@kinds
def test_points_where_the_model_breaks_down_are_wrong_and_do_no_harm(kind: type[Attack]) -> None:
    model = Curved()
    x, y = data(model)
    model.register_forward_hook(lambda _, given, logits: logits / (given[0].flatten(1).amax(1, keepdim=True) < 0.99))
    assert kind(Threat("linf", 0.1), steps=10)(model, x, y).isfinite().all()
