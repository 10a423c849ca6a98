from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from poise.attacks.norms import NORMS
from poise.attacks.pgd import PGD, pgd
from poise.attacks.threat import Threat
from poise.errors import UserError

norms = pytest.mark.parametrize("norm", sorted(NORMS))


class Tiny(nn.Module):
    def __init__(self, norm: bool = False, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(12, 16), nn.BatchNorm1d(16) if norm else nn.Tanh(), nn.Linear(16, 3)
        ).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * 4 - 2)


def data(rows: int = 10, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(rows, 3, 2, 2, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(3, (rows,), generator=generator)


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(x), y, reduction="none")


def of(model: nn.Module, y: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: F.cross_entropy(model(x), y, reduction="none")


def test_linf_pgd_equals_the_loop_written_out() -> None:
    model, (x, y) = Tiny(dtype=torch.float64), data(dtype=torch.float64)
    start = x + 0.01
    expected = start.clone()
    for _ in range(7):
        leaf = expected.clone().requires_grad_()
        F.cross_entropy(model(leaf), y, reduction="sum").backward()
        stepped = expected + 0.02 * leaf.grad.sign()
        expected = torch.min(torch.max(stepped, x - 0.05), x + 0.05).clamp(0, 1)
    found = pgd(of(model, y), x, start, Threat("linf", 0.05), 7, 0.02)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_l2_pgd_equals_the_loop_written_out() -> None:
    model, (x, y) = Tiny(dtype=torch.float64), data(dtype=torch.float64)
    expected = x.clone()
    for _ in range(7):
        leaf = expected.clone().requires_grad_()
        F.cross_entropy(model(leaf), y, reduction="sum").backward()
        for i, gradient in enumerate(leaf.grad):
            delta = expected[i] + 0.1 * gradient / gradient.norm() - x[i]
            expected[i] = (x[i] + delta * min(1.0, 0.3 / float(delta.norm()))).clamp(0, 1)
    found = pgd(of(model, y), x, x, Threat("l2", 0.3), 7, 0.1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@norms
def test_the_attack_is_permitted_and_raises_the_loss(norm: str) -> None:
    model, (x, _) = Tiny(), data(64)
    y = model(x).argmax(1)
    threat = Threat(norm, 0.1)
    x_adv = PGD(threat, steps=10)(model, x, y)
    assert (threat.distance(x_adv, x) <= 0.1 * (1 + 1e-6)).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert (losses(model, x_adv, y) > losses(model, x, y)).float().mean() > 0.99


@pytest.mark.parametrize("around", [nullcontext, torch.no_grad, torch.inference_mode])
def test_it_works_wherever_it_is_called(around: Any) -> None:
    model, (x, y) = Tiny(), data()
    expected = PGD(Threat("linf", 0.1), steps=3)(model, x, y)
    with around():
        x_adv = PGD(Threat("linf", 0.1), steps=3)(model, x.clone(), y.clone())
        low_level = pgd(of(model, y), x.clone(), x.clone(), Threat("linf", 0.1), 3, 0.05)
    for found in (x_adv, low_level):
        assert not found.is_inference()
        assert not found.requires_grad
    assert torch.equal(x_adv, expected)


def test_nothing_is_left_behind() -> None:
    model, (x, y) = Tiny(norm=True), data()
    model.net[2].eval()
    model.net[1].weight.grad = torch.ones_like(model.net[1].weight)
    before, original = [m.training for m in model.modules()], x.clone()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    PGD(Threat("linf", 0.1), steps=2, restarts=2)(model, x, y)
    assert [m.training for m in model.modules()] == before
    assert torch.equal(x, original)
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert torch.equal(gradients.pop("net.1.weight"), torch.ones(16, 12))
    assert all(g is None for g in gradients.values())


def test_the_model_is_in_evaluation_mode_meanwhile() -> None:
    model, (x, y) = Tiny(norm=True), data()
    model.train()
    seen: list[bool] = []
    model.net.register_forward_hook(lambda module, *_: seen.append(module.training))
    PGD(Threat("linf", 0.1), steps=2)(model, x, y)
    assert model.training
    assert set(seen) == {False}


@pytest.mark.parametrize(
    ("given", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_it_runs_in_float32_or_better(given: torch.dtype, kept: torch.dtype) -> None:
    model, (x, y) = Tiny(dtype=kept), data(dtype=given)
    threat = Threat("linf", 8 / 255)
    x_adv = PGD(threat, steps=3)(model, x, y)
    assert x_adv.dtype == kept
    assert (threat.distance(x_adv, x.to(kept)) <= threat.eps * (1 + 1e-6)).all()


def test_a_model_that_answers_in_half_precision_is_attacked_all_the_same() -> None:
    model, (x, y) = Tiny(), data()
    model.register_forward_hook(lambda _, __, logits: logits.bfloat16())
    assert PGD(Threat("linf", 0.1), steps=3)(model, x, y).isfinite().all()


def test_examples_do_not_depend_on_their_batch() -> None:
    model, (x, y) = Tiny(dtype=torch.float64), data(dtype=torch.float64)
    index = torch.arange(100, 110)
    attack = PGD(Threat("linf", 0.1), steps=4, restarts=2)
    whole = attack(model, x, y, seed=3, index=index)
    order = torch.tensor([7, 2, 9])
    part = attack(model, x[order], y[order], seed=3, index=index[order])
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-12)


def test_starts_follow_seed_and_index() -> None:
    model, (x, y) = Tiny(), data()
    attack = PGD(Threat("linf", 0.1), steps=1, step_size=0.0)
    first = attack(model, x, y)
    assert torch.equal(first, attack(model, x, y, seed=0, index=torch.arange(10)))
    assert not torch.isclose(first, attack(model, x, y, seed=1)).any(-1).all()
    assert not torch.isclose(first, attack(model, x, y, index=torch.arange(10) + 1)).any(-1).all()


def test_starts_are_the_same_in_float32_and_float64() -> None:
    attack = PGD(Threat("linf", 0.1), steps=1, step_size=0.0)
    x, y = data()
    single = attack(Tiny(), x, y)
    double = attack(Tiny(dtype=torch.float64), x.double(), y)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-7)


class Bumpy(nn.Module):
    """Two classes; the loss of class 0 has many maxima, and it is always the prediction."""

    def forward(self, x: Tensor) -> Tensor:
        height = (torch.sin(60 * x) + x).flatten(1).sum(1)
        return torch.stack([10 - height, height], 1)


def test_more_restarts_find_a_loss_at_least_as_great() -> None:
    x, y = torch.full((40, 2), 0.5), torch.zeros(40, dtype=torch.int64)
    model, threat = Bumpy(), Threat("linf", 0.3)
    one = losses(model, PGD(threat, steps=5, step_size=0.01)(model, x, y), y)
    many = losses(model, PGD(threat, steps=5, step_size=0.01, restarts=6)(model, x, y), y)
    assert (many >= one).all()
    assert (many > one + 1e-3).float().mean() > 0.5


def test_restarts_go_on_with_what_is_still_right() -> None:
    model, (x, _) = Tiny(), data(64)
    y = model(x).argmax(1)
    seen: list[int] = []
    model.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    one = PGD(Threat("linf", 0.1), steps=3)(model, x, y)
    broken = int((model(one).argmax(1) != y).sum())
    assert 0 < broken < 64
    seen.clear()
    many = PGD(Threat("linf", 0.1), steps=3, restarts=2)(model, x, y)
    assert seen[-4:] == [64 - broken] * 4
    assert (model(many).argmax(1) != y)[model(one).argmax(1) != y].all()


def test_what_is_wrong_stays_as_it_is() -> None:
    model, (x, y) = Tiny(), data(64)
    wrong = model(x).argmax(1) != y
    x_adv = PGD(Threat("linf", 0.1), steps=3)(model, x, y)
    assert torch.equal(x_adv[wrong], x[wrong])
    assert not torch.isclose(x_adv[~wrong], x[~wrong]).flatten(1).all(1).any()


def test_radius_zero_gives_the_input_back() -> None:
    model, (x, y) = Tiny(), data()
    for norm in NORMS:
        assert torch.equal(PGD(Threat(norm, 0.0), steps=2)(model, x, y), x)


def test_no_steps_give_the_start_projected() -> None:
    model, (x, y) = Tiny(), data()
    found = pgd(of(model, y), x, x + 1, Threat("linf", 0.25), 0, 0.1)
    torch.testing.assert_close(found, (x + 0.25).clamp(max=1))


def test_the_first_gradient_is_taken_at_the_start_as_given() -> None:
    x = torch.full((1, 2), 0.5)
    seen: list[Tensor] = []

    def loss(at: Tensor) -> Tensor:
        seen.append(at.detach().clone())
        return at.sum(1)

    pgd(loss, x, x + 0.4, Threat("linf", 0.1), 2, 0.1)
    torch.testing.assert_close(seen[0], x + 0.4)
    torch.testing.assert_close(seen[1], x + 0.1)


def test_a_zero_gradient_leaves_the_point_where_it_is() -> None:
    x = torch.rand(3, 4)
    for norm in NORMS:
        found = pgd(lambda at: (at * 0).sum(1), x, x, Threat(norm, 0.1), 3, 0.1)
        assert torch.equal(found, x)


def test_it_is_named_after_its_steps() -> None:
    assert PGD(Threat("linf", 0.1), steps=7).name == "pgd-7"


def test_the_default_step_crosses_the_ball() -> None:
    assert PGD(Threat("l2", 0.5), steps=20).step_size == pytest.approx(2.5 * 0.5 / 20)
    assert PGD(Threat("l2", 0.5), steps=20, step_size=0.1).step_size == 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0 of PGD is not a whole number >= 1"),
        ({"restarts": 0}, "restarts=0 of PGD is not a whole number >= 1"),
        ({"step_size": -0.1}, "step_size=-0.1 of PGD is not a finite number >= 0"),
    ],
)
def test_wrong_parameters_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PGD(Threat("linf", 0.1), **arguments)


def test_a_radius_in_the_wrong_unit_is_refused() -> None:
    model, (x, y) = Tiny(), data()
    with pytest.raises(UserError, match="write 8/255"):
        PGD(Threat("l2", 8.0), steps=2)(model, x, y)


class Operations(TorchDispatchMode):
    """Names of all operations that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@norms
def test_no_step_waits_for_the_device(norm: str) -> None:
    model, (x, y) = Tiny(), data()
    with Operations() as ran:
        pgd(of(model, y), x, x, Threat(norm, 0.1), 5, 0.1)
    assert ran.names.count("tanh") == 5
    assert not {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select"} & set(ran.names)


@pytest.mark.parametrize("cut", [lambda model, x: model(x).detach(), lambda model, x: model(x.detach())])
def test_a_model_without_a_gradient_cannot_be_attacked(cut: Callable[[nn.Module, Tensor], Tensor]) -> None:
    model, (x, y) = Tiny(), data()
    threat = Threat("linf", 0.1)
    with pytest.raises(UserError, match="no gradient with respect to its inputs"):
        pgd(lambda z: F.cross_entropy(cut(model, z), y, reduction="none"), x, x, threat, 1, 0.1)


def test_in_lockstep_it_finds_the_same_by_passes_that_hang_on_no_example() -> None:
    model, (x, y) = Tiny(dtype=torch.float64), data(dtype=torch.float64)
    attack = PGD(Threat("linf", 0.1), steps=4)
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    found = attack.in_lockstep(model, x, y, seed=2, index=torch.arange(5, 15))
    usual = len(passes)
    torch.testing.assert_close(found, attack(model, x, y, seed=2, index=torch.arange(5, 15)), rtol=0, atol=1e-12)
    wrong = (model(x).argmax(1) + 1) % 3
    passes.clear()
    assert torch.equal(attack.in_lockstep(model, x, wrong), x)
    assert len(passes) == usual
