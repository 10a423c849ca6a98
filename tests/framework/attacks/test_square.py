from contextlib import nullcontext
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from live_tensors import live_bytes
from poise.attacks.attack import is_right
from poise.attacks.draws import Draws
from poise.attacks.square import BROKEN, HALVED_AFTER, Square, _legs, margin_of
from poise.attacks.squares import SQUARES
from poise.attacks.threat import Threat
from poise.attacks.work import counted
from poise.errors import UserError

norms = pytest.mark.parametrize("norm", sorted(SQUARES))
EPS = {"linf": 0.1, "l2": 0.8, "l1": 4.0}


class Flat(nn.Module):
    """A linear model of three classes that gives no gradient."""

    def __init__(self, size: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        weight = torch.randn(3, size, generator=generator, dtype=torch.float64) + 0.3
        self.weight = nn.Parameter((weight - weight.mean(1, keepdim=True)).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return (x.detach().flatten(1) @ self.weight.detach().T).detach()


def data(
    shape: tuple[int, ...], rows: int = 20, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, inputs, and labels of which nine in ten are as predicted."""
    x = Draws.of(0, torch.arange(rows)).uniform(*shape).to(dtype)
    model = Flat(x[0].numel(), dtype)
    y = model(x).argmax(1)
    y[::10] = (y[::10] + 1) % 3
    return model, x, y


def least_margin(model: Flat, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """The lowest margin within linf, of the class that gives it."""
    found = []
    for step in (1, 2):
        normal = model.weight[y] - model.weight[(y + step) % 3]
        ends = torch.where(normal > 0, (x.flatten(1) - eps).clamp_min(0), (x.flatten(1) + eps).clamp_max(1))
        found.append((normal * ends).sum(1))
    return torch.minimum(*found)


def test_it_breaks_a_linear_model_that_has_no_gradient_nearly_as_often_as_can_be() -> None:
    model, x, y = data((2, 6, 6), rows=60)
    threat = Threat("linf", 0.04)
    x_adv = Square(threat, queries=2000)(model, x, y)
    least = least_margin(model, x, y, threat.eps)
    broken = ~is_right(model, x_adv, y)
    assert 5 < broken.sum() < 55
    assert not broken[least > 0].any()
    assert broken[least < -0.3].all()


@norms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_are_permitted_and_what_was_wrong_is_left(norm: str, dtype: torch.dtype) -> None:
    model, x, y = data((2, 9, 9), dtype=dtype)
    threat = Threat(norm, EPS[norm])
    x_adv = Square(threat, queries=60)(model, x, y)
    was, stays = is_right(model, x, y), is_right(model, x_adv, y)
    assert (was & ~stays).any()
    assert torch.equal(x_adv[~was], x[~was])
    assert x_adv.dtype == dtype
    assert (threat.distance(x_adv, x) <= threat.eps).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


@norms
def test_without_a_range_the_whole_of_eps_is_used(norm: str) -> None:
    model, x, y = data((1, 8, 8))
    threat = Threat(norm, 1e-3, low=None, high=None)
    x_adv = Square(threat, queries=30)(model, x, y)
    right = is_right(model, x, y)
    torch.testing.assert_close(threat.distance(x_adv, x)[right].float(), torch.full((18,), 1e-3), rtol=1e-2, atol=0)


@norms
@pytest.mark.parametrize("shape", [(3, 7, 4), (1, 3, 20), (5, 5), (30,), (2, 3, 8, 8), (1, 1, 1)])
def test_pictures_of_any_shape_are_searched(norm: str, shape: tuple[int, ...]) -> None:
    model, x, y = data(shape, rows=6)
    threat = Threat(norm, 0.3)
    right = is_right(model, x, y)
    few, many = (Square(threat, queries=n)(model, x, y) for n in (1, 60))
    assert many.shape == x.shape
    before, after = (margin_of(model(each), y)[right] for each in (few, many))
    assert (after <= before).all()
    if x[0].numel() > 1:
        assert (after < before).any()


@norms
def test_an_example_does_not_depend_on_batch_and_order(norm: str) -> None:
    model, x, y = data((1, 8, 8), rows=30, dtype=torch.float64)
    attack, index = Square(Threat(norm, EPS[norm] / 2), queries=70, restarts=2), torch.arange(50, 80)
    whole = attack(model, x, y, seed=3, index=index)
    assert 0 < is_right(model, whole, y).sum() < 27
    order = torch.tensor([17, 2, 9, 4])
    part = attack(model, x[order], y[order], seed=3, index=index[order])
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-9)
    quick, right = Square(Threat(norm, EPS[norm] / 2), queries=1), is_right(model, x, y)
    one, other = (quick(model, x, y, seed=seed, index=index)[right].flatten(1) for seed in (3, 4))
    assert not torch.isclose(one, other).all(1).any()


@norms
def test_more_queries_and_restarts_go_on_from_fewer(norm: str) -> None:
    model, x, y = data((1, 8, 8))
    threat, right = Threat(norm, EPS[norm] / 4), is_right(model, x, y)
    found = [Square(threat, queries=n, restarts=r)(model, x, y) for n, r in ((20, 1), (200, 1), (200, 3))]
    first, second, third = (margin_of(model(each), y)[right] for each in found)
    for fewer, more in ((first, second), (second, third)):
        assert (more <= fewer).all()
        assert (more < fewer).any()


def test_a_linf_point_lies_at_the_ends_of_what_is_allowed() -> None:
    model, x, y = data((3, 8, 8))
    x, threat = 0.2 + 0.6 * x, Threat("linf", 0.01)
    y = model(x).argmax(1)
    change = Square(threat, queries=40)(model, x, y) - x
    torch.testing.assert_close(change.abs(), torch.full_like(x, 0.01), rtol=1e-4, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    query=st.sampled_from([0, *HALVED_AFTER]),
    drawn=st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=2, max_size=2),
)
def test_windows_lie_in_the_picture(height: int, width: int, query: int, drawn: list[float]) -> None:
    squares = SQUARES["linf"](Threat("linf", 0.1), torch.zeros(1, 2, height, width))
    share = 0.8 / 2 ** HALVED_AFTER.index(query) if query else 0.8
    high, wide = squares.sides(share)
    down, right = torch.tensor(drawn)[:, None, None]
    window = squares.corners([(high, wide)], down, right) + squares.rectangle(high, wide)
    rows, columns = window // width, window % width
    assert window.unique().numel() == high * wide
    assert 0 <= rows.min() <= rows.max() < height
    assert columns.max() - columns.min() == wide - 1
    if height == width:
        assert high == wide == max(1, round((share * height * width) ** 0.5))


def test_every_place_of_a_window_is_as_likely() -> None:
    squares = SQUARES["linf"](Threat("linf", 0.1), torch.zeros(1, 1, 6, 6))
    drawn = Draws.of(0, torch.arange(9000)).uniform(2)
    corners = squares.corners([(4, 4)], drawn[:, :1], drawn[:, 1:])
    places, counts = corners.unique(return_counts=True)
    assert places.tolist() == [row * 6 + column for row in range(3) for column in range(3)]
    assert (counts - 1000).abs().max() < 5 * 30


@pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 4)])
def test_bumps_are_sums_of_ever_larger_squares(norm: str, power: int) -> None:
    squares = SQUARES[norm](Threat(norm, 0.1), torch.zeros(1, 1, 20, 20))
    halves = []
    for high in (3, 4):  # of a window of seven by seven
        bump = torch.zeros(high, 7)
        for ring in range(4):
            top, left = high // 2 - ring, 3 - ring
            bump[max(top, 0) : top + 2 * ring + 1, left : left + 2 * ring + 1] += 1 / (ring + 1) ** power
        halves.append(bump / bump.norm(2 if norm == "l2" else 1))
    expected = torch.cat([halves[0], -halves[1]])
    expected = expected / expected.flatten().norm(2 if norm == "l2" else 1)
    upright, turned = squares.pattern(7, 7).view(2, 7, 7)
    torch.testing.assert_close(upright, expected)
    torch.testing.assert_close(turned, expected.T)


def test_each_query_is_one_forward_and_what_broke_has_left() -> None:
    model, x, y = data((1, 8, 8), rows=8)
    y = model(x).argmax(1)
    draws = Draws.of(0, torch.arange(8))
    with counted(model) as work:
        Square(Threat("linf", 1e-6), queries=300).search(model, x, y, draws)
    assert (work.forwards, work.backwards) == (8 * 301, 0)
    found = {n: ~is_right(model, Square(Threat("linf", 0.05), n)(model, x, y), y) for n in (5, 40)}
    assert found[40].any()
    with counted(model) as work:
        Square(Threat("linf", 0.05), queries=40).search(model, x, y, draws.named("square"))
    assert work.forwards <= 8 * 41 - 34 * found[5].sum()


def test_the_host_waits_ever_less_often() -> None:
    legs = list(_legs(5000))
    assert [query for leg in legs for query in leg] == list(range(5000))
    assert all(len(leg) == 1 for leg in legs[:50])
    assert all(len(leg) <= 1 + leg[0] / 50 for leg in legs)
    assert len(legs) < 300


class Operations(TorchDispatchMode):
    """Names of all operations that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@norms
def test_nobody_waits_between_two_looks(norm: str) -> None:
    model, x, y = data((3, 8, 8))
    attack = Square(Threat(norm, EPS[norm]))
    with Operations() as ran, torch.no_grad():
        attack._leg(model, x, y, x, margin_of(model(x), y), Draws.of(0, torch.arange(20)), range(300, 306))
    assert "scatter" in ran.names
    assert not {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select"} & ran.names


@pytest.mark.parametrize("around", [nullcontext, torch.no_grad, torch.inference_mode])
def test_it_works_wherever_it_is_called_and_leaves_nothing_behind(around: Any) -> None:
    model, x, y = data((1, 8, 8))
    model.train()
    attack = Square(Threat("linf", 0.1), queries=20)
    with around():
        x_adv = attack(model, x.clone(), y.clone())
    assert not x_adv.is_inference()
    assert not x_adv.requires_grad
    assert torch.equal(x_adv, attack(model, x, y))
    assert model.training


@norms
def test_memory_does_not_grow_with_queries(norm: str) -> None:
    model, x, y = data((1, 8, 8))
    calls, held = count(), {}

    def look(*_: object) -> None:
        if (call := next(calls)) in {60, 61, 62, 330}:
            held[call] = live_bytes()

    model.register_forward_hook(look)
    Square(Threat(norm, 1e-5), queries=330).search(model, x, y, Draws.of(0, torch.arange(20)))
    # numbers of as many queries as lie between two looks are drawn at once
    numbers = 20 * 7 * (1 + 330 // 50) * 8 * 8
    assert held[330] <= max(held[call] for call in (60, 61, 62)) + numbers


def test_a_tie_is_wrong_where_the_prediction_is() -> None:
    logits = torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0], [torch.nan, 0.0], [torch.inf, 0.0]])
    y = torch.tensor([0, 1, 0, 0, 0])
    assert margin_of(logits, y).tolist() == [0, BROKEN, 1, BROKEN, BROKEN]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": 0}, "queries=0 of square is not a whole number >= 1"),
        ({"restarts": 0}, "restarts=0 of square is not a whole number >= 1"),
    ],
)
def test_wrong_parameters_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Square(Threat("linf", 0.1), **arguments)
