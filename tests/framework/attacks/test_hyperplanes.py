import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from poise.attacks.hyperplanes import PLANES, change_to, dual_length, length

norms = pytest.mark.parametrize("norm", sorted(PLANES))


def planes(seed: int, rows: int, size: int, coarse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Points in the unit box, normals and gaps; coarse ones have values at the ends, zeros and ties."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, w, aim = draw(rows, 2, size), 2 * draw(rows, size) - 1, draw(rows, 2, size)
    if coarse:
        x, w = (3 * x).floor() / 2, (2 * w).round() * torch.tensor(10.0).pow((8 * draw(rows, 1) - 4).round())
    return x, w, 1.5 * (w[:, None] * (aim - x)).sum(-1)


def farthest(x: Tensor, w: Tensor, gap: Tensor) -> Tensor:
    """The most that w·d can do towards the gap inside the box."""
    direction = w[:, None].sign() * gap.sign()[..., None]
    return (w[:, None].abs() * torch.where(direction > 0, 1 - x, x)).sum(-1)


def by_bisection(norm: str, x: Tensor, w: Tensor, gap: Tensor) -> Tensor:
    """Length of the shortest change, by halving what decides on it: the multiplier of w in l2, else the radius."""
    rate, space = w[:, None].abs().expand_as(x), torch.where(w[:, None].sign() * gap.sign()[..., None] > 0, 1 - x, x)
    order = rate.argsort(-1, descending=True)

    def change(level: Tensor) -> Tensor:
        """Of the values in descending order of their rates."""
        room, rates = space.gather(-1, order), rate.gather(-1, order)
        if norm == "l2":
            return torch.minimum(room, level[..., None] * rates)
        if norm == "linf":
            return torch.minimum(room, level[..., None])
        return torch.minimum(room, (level[..., None] - (room.cumsum(-1) - room)).clamp_min(0))

    low, high = torch.zeros_like(gap), torch.full_like(gap, 1e9)
    for _ in range(120):
        middle = (low + high) / 2
        enough = (rate.gather(-1, order) * change(middle)).sum(-1) >= gap.abs()
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return torch.linalg.vector_norm(change(high), {"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=-1)


@norms
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([1, 2, 7, 40, 150]), coarse=st.booleans())
def test_the_change_stays_in_the_box_and_reaches_the_plane_where_it_can(
    norm: str, seed: int, size: int, coarse: bool
) -> None:
    x, w, gap = planes(seed, 5, size, coarse)
    change = change_to(norm, x, w, gap, 0.0, 1.0)
    assert (x + change).min() >= -1e-12
    assert (x + change).max() <= 1 + 1e-12
    reached = torch.minimum(farthest(x, w, gap), gap.abs()) * gap.sign()
    scale = w.abs().sum(-1, keepdim=True) + 1e-300
    torch.testing.assert_close((w[:, None] * change).sum(-1) / scale, reached / scale, rtol=0, atol=1e-12)


@norms
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([1, 3, 40]), coarse=st.booleans())
def test_no_shorter_change_does(norm: str, seed: int, size: int, coarse: bool) -> None:
    x, w, gap = planes(seed, 4, size, coarse)
    w = w / w.abs().amax(-1, keepdim=True).clamp_min(1e-300)
    gap = torch.minimum(gap.abs(), 0.999 * farthest(x, w, gap)) * gap.sign()
    found = length(norm, change_to(norm, x, w, gap, 0.0, 1.0))
    torch.testing.assert_close(found, by_bisection(norm, x, w, gap), rtol=1e-6, atol=1e-6)


def test_a_quadratic_program_finds_none_shorter() -> None:
    x, w, gap = planes(4, 3, 8, coarse=False)
    gap = 0.5 * gap.sign() * torch.minimum(gap.abs(), farthest(x, w, gap))
    found = length("l2", change_to("l2", x, w, gap, 0.0, 1.0))
    for row in range(3):
        for point in range(2):
            normal, here, aim = w[row].numpy(), x[row, point].numpy(), float(gap[row, point])
            done = minimize(
                lambda change: change @ change,
                np.zeros(8),
                bounds=[(-value, 1 - value) for value in here],
                constraints={"type": "eq", "fun": lambda change, normal=normal, aim=aim: normal @ change - aim},
            )
            assert math.sqrt(done.fun) == pytest.approx(float(found[row, point]), abs=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_a_linear_program_finds_none_shorter(norm: str) -> None:
    x, w, gap = planes(3, 3, 12, coarse=False)
    gap = 0.5 * gap.sign() * torch.minimum(gap.abs(), farthest(x, w, gap))
    found = length(norm, change_to(norm, x, w, gap, 0.0, 1.0))
    for row in range(3):
        for point in range(2):
            # d = up - down; for linf one more variable bounds all of them
            size, normal, here = 12, w[row].numpy(), x[row, point].numpy()
            sides = np.concatenate([normal, -normal])
            bounds = [(0, 1 - value) for value in here] + [(0, value) for value in here]
            if norm == "l1":
                done = linprog(np.ones(2 * size), A_eq=[sides], b_eq=[float(gap[row, point])], bounds=bounds)
            else:
                below = np.hstack([np.eye(2 * size), -np.ones((2 * size, 1))])
                cost = np.append(np.zeros(2 * size), 1)
                equal = [np.append(sides, 0)]
                aim, ends = [float(gap[row, point])], [*bounds, (0, None)]
                done = linprog(cost, below, np.zeros(2 * size), equal, aim, ends)
            assert done.fun == pytest.approx(float(found[row, point]), abs=1e-9)


@norms
def test_without_a_range_the_length_is_the_gap_over_the_dual_norm(norm: str) -> None:
    x, w, gap = planes(0, 8, 50, coarse=False)
    change = change_to(norm, x, w, gap, None, None)
    torch.testing.assert_close((w[:, None] * change).sum(-1), gap)
    torch.testing.assert_close(length(norm, change), gap.abs() / dual_length(norm, w)[:, None])


@norms
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (None, None)])
def test_nothing_moves_where_the_normal_is_zero_or_the_plane_is_reached(
    norm: str, bounds: tuple[float | None, float | None]
) -> None:
    x, w, gap = planes(0, 4, 6, coarse=False)
    assert not change_to(norm, x, torch.zeros_like(w), gap, *bounds).any()
    assert not change_to(norm, x, w, torch.zeros_like(gap), *bounds).any()


@norms
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_size_of_the_normal_does_not_matter(norm: str, scale: float) -> None:
    x, w, gap = (each.float() for each in planes(1, 4, 30, coarse=False))
    expected = change_to(norm, x, w, gap, 0.0, 1.0)
    torch.testing.assert_close(change_to(norm, x, scale * w, scale * gap, 0.0, 1.0), expected, rtol=1e-4, atol=1e-6)


@norms
def test_rates_of_many_sizes_are_no_trouble(norm: str) -> None:
    rate = torch.logspace(0, -15, 300, dtype=torch.float64)[None]
    x = torch.zeros(1, 1, 300, dtype=torch.float64)
    for share in (1e-14, 0.3, 1 - 1e-14):
        gap = share * rate.sum(-1, keepdim=True)
        change = change_to(norm, x, rate, gap, 0.0, 1.0)
        torch.testing.assert_close((rate * change[:, 0]).sum(-1, keepdim=True), gap, rtol=1e-12, atol=0)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    x, w, gap = planes(5, 20, 100, coarse=False)
    for norm in PLANES:
        whole = change_to(norm, x, w, gap, 0.0, 1.0)
        for row in (0, 7):
            alone = change_to(norm, x[row : row + 1], w[row : row + 1], gap[row : row + 1], 0.0, 1.0)
            torch.testing.assert_close(alone, whole[row : row + 1], rtol=0, atol=1e-14)


def test_lengths_are_norms() -> None:
    change = torch.tensor([[[3.0, -4.0]]])
    assert [float(length(norm, change)) for norm in ("linf", "l2", "l1")] == [4, 5, 7]
    assert [float(dual_length(norm, change[0])) for norm in ("linf", "l2", "l1")] == [7, 5, 4]
