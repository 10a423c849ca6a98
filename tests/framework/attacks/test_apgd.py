import gc
import itertools
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from live_tensors import live_bytes
from poise.attacks.apgd import APGD, balls
from poise.attacks.apgd_targeted import TargetedAPGD, most_likely_wrong
from poise.attacks.attack import Attack
from poise.attacks.climb import Landscape, climb
from poise.attacks.pgd import PGD
from poise.attacks.step_rules import Momentum, SparseSigns
from poise.attacks.threat import Threat
from poise.errors import UserError

THREATS = {"linf": Threat("linf", 0.05), "l2": Threat("l2", 0.25), "l1": Threat("l1", 1.0)}
CLASSES = 6

norms = pytest.mark.parametrize("norm", sorted(THREATS))
kinds = pytest.mark.parametrize("kind", ["ce", "dlr", "targeted"])


class Tiny(nn.Module):
    """A network of curved surfaces, on inputs of 3x4x4 values."""

    def __init__(self, dtype: torch.dtype = torch.float64, classes: int = CLASSES) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.Tanh(), nn.Linear(24, classes)).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * 4 - 2)


def data(model: nn.Module, rows: int = 24) -> tuple[Tensor, Tensor]:
    """Inputs, and the labels that the model gives them."""
    x = torch.rand(rows, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x.to(next(model.parameters()).dtype)
    with torch.no_grad():
        return x, model(x).argmax(1)


def attack(kind: str, threat: Threat, steps: int = 20, restarts: int = 1) -> Attack:
    if kind == "targeted":
        return TargetedAPGD(threat, targets=3, steps=steps, restarts=restarts)
    return APGD(threat, "dlr" if kind == "dlr" else "ce", steps, restarts)


def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


def test_checkpoints_are_those_of_the_paper() -> None:
    assert [at for at in Momentum.checkpoints(100) if at <= 100] == [22, 41, 57, 70, 80, 87, 93, 99]
    assert [at for at in Momentum.checkpoints(50) if at <= 50] == [11, 21, 30, 38, 45, 50][:5]
    assert list(Momentum.checkpoints(3)) == [1, 2, 3]
    assert list(SparseSigns.checkpoints(100)) == list(range(4, 101, 4))
    assert list(SparseSigns.checkpoints(40)) == list(range(1, 41))


def test_the_radius_shrinks_under_l1_alone() -> None:
    assert balls(THREATS["l1"], 100) == [(3.0, 30), (2.0, 30), (1.0, 40)]
    assert balls(THREATS["l1"], 1) == [(3.0, 0), (2.0, 0), (1.0, 1)]
    assert balls(THREATS["l2"], 100) == [(0.25, 100)]


def by_hand(model: nn.Module, x: Tensor, y: Tensor, start: Tensor, threat: Threat, steps: int) -> Tensor:
    """The best point of one example [1, *input], written from the paper's algorithm 1."""
    checkpoints = [percent * steps // 100 for percent in (0, 22, 41, 57, 70, 80, 87, 93, 99)]
    size, halved = 2 * threat.eps, False
    point, before = start.clone(), start.clone()

    def looked(at: Tensor) -> tuple[float, Tensor]:
        leaf = at.clone().requires_grad_()
        loss = F.cross_entropy(model(leaf), y)
        return loss.item(), torch.autograd.grad(loss, leaf)[0]

    loss, gradient = looked(point)
    best, best_loss, best_gradient = point, loss, gradient
    known, rises = best_loss, 0
    for step in range(steps):
        unit = gradient.sign() if threat.norm == "linf" else gradient / gradient.norm()
        ahead = threat.project(point + size * unit, x)
        share = 1.0 if step == 0 else 0.75
        following = threat.project(point + share * (ahead - point) + (1 - share) * (point - before), x)
        before, point = point, following
        last, (loss, gradient) = loss, looked(point)
        rises += loss > last
        if loss > best_loss:
            best, best_loss, best_gradient = point, loss, gradient
        if step + 1 in checkpoints:
            interval = step + 1 - max(at for at in checkpoints if at <= step)
            stuck = step + 1 != checkpoints[1] and not halved and known >= best_loss
            halved = rises <= 0.75 * interval or stuck
            if halved:
                size, point, gradient = size / 2, best, best_gradient
            known, rises = best_loss, 0
    return best


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_run_equals_the_algorithm_written_out(norm: str) -> None:
    model, threat = Tiny(), THREATS[norm]
    x, y = data(model, 3)
    start = threat.edge(x, torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype) * 2 - 1)
    scene = Landscape(model, y, lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none"))
    found = climb(scene, threat, x, start, 100, until_broken=False)
    expected = [by_hand(model, x[i : i + 1], y[i : i + 1], start[i : i + 1], threat, 100) for i in range(len(x))]
    torch.testing.assert_close(found.best, torch.cat(expected), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.loss, F.cross_entropy(model(found.best), y, reduction="none"))


def test_a_run_under_l1_equals_its_rules_written_out() -> None:
    model, threat, steps = Tiny(), THREATS["l1"], 50
    x, y = data(model, 2)
    start = threat.edge(x, torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype) * 2 - 1)
    scene = Landscape(model, y, lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none"))
    found = climb(scene, threat, x, start, steps, until_broken=False)
    for i in range(len(x)):
        clean, label = x[i : i + 1], y[i : i + 1]
        point, size, best_loss = start[i : i + 1], threat.eps, -torch.inf
        changed = int((point != clean).sum())
        count = max(1, -(-2 * changed // 3))
        for step in range(steps + 1):
            leaf = point.clone().requires_grad_()
            loss = F.cross_entropy(model(leaf), label)
            gradient = torch.autograd.grad(loss, leaf)[0]
            if loss.item() > best_loss:
                best, best_loss, best_gradient = point, loss.item(), gradient
            if step and step % 2 == 0:
                now = int((best != clean).sum())
                sparser = now / changed < 0.95
                size = threat.eps if sparser else max(size / 1.5, threat.eps / 10)
                changed, count = now, max(1, -(-2 * now // 3))
                point, gradient = (best, best_gradient) if sparser else (point, gradient)
            largest = gradient.abs().flatten().topk(count).indices
            unit = torch.zeros(48, dtype=x.dtype)
            unit[largest] = gradient.flatten()[largest].sign() / count
            point = threat.project(point + size * unit.view_as(point), clean)
        torch.testing.assert_close(found.best[i : i + 1], best, rtol=0, atol=1e-9)


@norms
@kinds
def test_what_it_gives_is_permitted_and_as_wrong_as_it_can_be(norm: str, kind: str) -> None:
    model, threat = Tiny(torch.float32), THREATS[norm]
    x, y = data(model, 60)
    x_adv = attack(kind, threat, steps=30)(model, x, y)
    assert threat.permits(x_adv, x).all()
    assert (threat.distance(x_adv, x) <= threat.eps * (1 + 1e-6)).all()
    assert not x_adv.requires_grad
    broken, by_pgd = wrong(model, x_adv, y), wrong(model, PGD(threat, 30)(model, x, y), y)
    assert 0.2 < broken.float().mean() < 1
    assert (broken | ~by_pgd).float().mean() > 0.95


@norms
def test_what_withstands_comes_back_at_its_greatest_loss(norm: str) -> None:
    model, threat = Tiny(), Threat(norm, THREATS[norm].eps / 10)
    x, y = data(model)
    few, many = (APGD(threat, steps=steps)(model, x, y) for steps in (1, 40))
    right = ~wrong(model, many, y)
    losses = [F.cross_entropy(model(points), y, reduction="none")[right] for points in (x, few, many)]
    assert right.sum() > 5
    assert (losses[2] >= losses[1] - 1e-12).all()
    assert (losses[1] > losses[0]).float().mean() > 0.9


@norms
@settings(max_examples=2, deadline=None)
@given(order=st.permutations(range(24)), cut=st.integers(1, 23))
def test_an_example_fares_the_same_in_any_batch_and_order(norm: str, order: list[int], cut: int) -> None:
    model = Tiny()
    x, y = data(model)
    index = torch.arange(100, 124)
    for kind in ("ce", "targeted"):
        tried = attack(kind, THREATS[norm], steps=8, restarts=2)
        whole = tried(model, x, y, seed=3, index=index)
        rows = torch.tensor(order)
        parts = [tried(model, x[part], y[part], seed=3, index=index[part]) for part in (rows[:cut], rows[cut:])]
        torch.testing.assert_close(torch.cat(parts), whole[rows], rtol=0, atol=1e-9)


@kinds
@pytest.mark.parametrize("around", [nullcontext, torch.no_grad, torch.inference_mode])
def test_it_works_wherever_it_is_called_and_leaves_nothing_behind(around: Any, kind: str) -> None:
    model = Tiny()
    x, y = data(model)
    expected, original = attack(kind, THREATS["l2"], steps=6)(model, x, y), x.clone()
    model.train()
    with around():
        found = attack(kind, THREATS["l2"], steps=6)(model, x.clone(), y.clone())
    assert torch.equal(found, expected)
    assert not found.is_inference()
    assert torch.equal(x, original)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def passes(model: nn.Module) -> list[int]:
    """The sizes of all batches from now on."""
    seen: list[int] = []
    model.register_forward_hook(lambda module, inputs, logits: seen.append(len(logits)))
    return seen


def test_the_broken_leave_at_checkpoints_and_restarts_go_on_with_the_others() -> None:
    model = Tiny()
    x, y = data(model)
    seen = passes(model)
    tried = APGD(THREATS["linf"], steps=100, restarts=2)
    x_adv = tried(model, x, y)
    runs = seen[4:]  # one to see what is given, two to measure the memory, one for who is right
    assert runs[:23] == [24] * 23
    assert all(after <= before for before, after in itertools.pairwise(runs))
    assert len(runs) == 2 * 101
    assert runs[-1] == int((~wrong(model, x_adv, y)).sum()) < 24


def test_every_point_seen_can_break_the_start_too() -> None:
    """Wrong at the start alone, from where the gradient leads away."""

    class Hole(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            at_start = ((z - start).abs() < 1e-6).all(1)
            return torch.stack([2 - z.sum(1) - 3 * at_start, z.sum(1) * 0 + 1, z.sum(1) * 0], 1)

    x, y = torch.full((1, 2), 0.2), torch.zeros(1, dtype=torch.int64)
    threat = Threat("linf", 0.1)
    start = torch.tensor([[0.3, 0.1]])
    scene = Landscape(Hole(), y, lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none"))
    found = climb(scene, threat, x, start, 10, until_broken=True)
    assert found.wrong.all()
    assert torch.equal(found.worst().x_adv, start)


def test_targets_are_the_likeliest_wrong_classes_of_the_clean_input() -> None:
    model = Tiny()
    x, y = data(model)
    expected = model(x).argsort(1, descending=True)[:, 1:4].T
    assert torch.equal(most_likely_wrong(model, x, y, 3), expected)
    assert len(most_likely_wrong(model, x, y, 9)) == CLASSES - 1


def test_a_point_counts_as_wrong_whatever_class_is_predicted() -> None:
    model, threat = Tiny(), THREATS["linf"]
    x, y = data(model)
    target = most_likely_wrong(model, x, y, 1)[0]
    x_adv = TargetedAPGD(threat, targets=1, steps=20)(model, x, y)
    predicted = model(x_adv).argmax(1)
    assert ((predicted != y) & (predicted == target)).sum() > 5
    every = TargetedAPGD(threat, targets=5, steps=20)(model, x, y)
    assert wrong(model, every, y)[wrong(model, x_adv, y)].all()


class Noisy(Tiny):
    """Whose logits are random."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits + 0.3 * torch.randn_like(logits)


def test_the_mean_of_several_passes_is_climbed() -> None:
    torch.manual_seed(0)
    model = Noisy()
    x, y = data(Tiny())
    seen = passes(model)
    scene = Landscape(model, y, lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none"), average=400)
    exact = Landscape(Tiny(), y, scene.loss)
    rows = torch.arange(len(x))
    averaged, expected = scene.seen_from(x, rows), exact.seen_from(x, rows)
    assert seen == [24] * 400
    cosine = F.cosine_similarity(averaged.gradient.flatten(1), expected.gradient.flatten(1))
    assert (cosine > 0.95).all()
    assert (averaged.wrong == expected.wrong).float().mean() > 0.9
    seen.clear()
    APGD(THREATS["linf"], steps=2, average=3)(model, x[:4], model(x[:4]).argmax(1))
    assert len(seen) <= 1 + 4 + 3 * 3


def test_a_gradient_that_is_no_number_moves_nothing() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            distance = (x - 0.5).square().sum(1).sqrt()  # whose slope at 0.5 is 0/0
            return torch.stack([2 - distance, distance, 0 * distance], 1)

    x, y = torch.full((1, 2), 0.5), torch.zeros(1, dtype=torch.int64)
    scene = Landscape(Root(), y, lambda logits, rows: F.cross_entropy(logits, y[rows], reduction="none"))
    for threat in THREATS.values():
        assert torch.equal(climb(scene, threat, x, x, 5, until_broken=True).worst().x_adv, x)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_memory_does_not_grow_with_the_steps(norm: str) -> None:
    model = Tiny()
    x, y = data(model)
    alive: list[int] = []

    def count(*_: object) -> None:
        """Bytes of all tensors, early and late."""
        passes = next(number)
        if passes in (10, 60):
            alive.append(live_bytes())

    number = itertools.count()
    model.register_forward_hook(count)
    gc.collect()
    APGD(Threat(norm, 0.001), steps=70)(model, x, y)
    assert alive[1] <= alive[0]


@pytest.mark.parametrize("norm", sorted(THREATS))
def test_radius_zero_gives_the_input_back(norm: str) -> None:
    model = Tiny()
    x, y = data(model)
    assert torch.equal(APGD(Threat(norm, 0.0), steps=5)(model, x, y), x)


def test_nothing_is_done_where_nothing_is_right() -> None:
    model = Tiny()
    x, y = data(model)
    assert torch.equal(APGD(THREATS["linf"])(model, x, (y + 1) % CLASSES), x)
    assert len(APGD(THREATS["linf"])(model, x[:0], y[:0])) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: APGD(THREATS["linf"], "drl"), r"loss='drl' of APGD is neither 'ce' nor 'dlr'\. Did you mean 'dlr'\?"),
        (lambda: APGD(THREATS["linf"], steps=0), "steps=0 of apgd-ce is not a whole number >= 1"),
        (lambda: APGD(THREATS["linf"], "dlr", restarts=0), "restarts=0 of apgd-dlr is not"),
        (lambda: APGD(THREATS["linf"], average=0), "average=0 of apgd-ce is not"),
        (lambda: TargetedAPGD(THREATS["linf"], targets=0), "targets=0 of apgd-t is not"),
    ],
)
def test_wrong_parameters_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_losses_that_a_model_has_too_few_classes_for_are_refused() -> None:
    three, two = Tiny(classes=3), Tiny(classes=2)
    with pytest.raises(UserError, match="targeted DLR loss"):
        TargetedAPGD(THREATS["linf"])(three, *data(three))
    with pytest.raises(UserError, match="the DLR loss"):
        APGD(THREATS["linf"], "dlr")(two, *data(two))
