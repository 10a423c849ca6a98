import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from poise.attacks.norms import NORMS
from poise.attacks.threat import Threat
from poise.errors import UserError

norms = pytest.mark.parametrize("norm", sorted(NORMS))
shapes = st.sampled_from([(1,), (7,), (64,), (3, 4, 4)])
dtypes = st.sampled_from([torch.float32, torch.float64])
radii = st.one_of(st.just(0.0), st.floats(1e-4, 0.9))
seeds = st.integers(0, 2**31 - 1)


def draw(seed: int, shape: tuple[int, ...], dtype: torch.dtype, spread: float) -> tuple[Tensor, Tensor]:
    """Valid inputs, some of them on the border of 0…1, and points around them."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.rand(6, *shape, generator=generator, dtype=dtype) * 1.4 - 0.2).clamp(0, 1)
    return x, x + spread * torch.randn(x.shape, generator=generator, dtype=dtype)


def lengths(norm: str, x_adv: Tensor, x: Tensor) -> np.ndarray[Any, Any]:
    change = (x_adv.double() - x.double()).reshape(len(x), -1).numpy()
    return {"linf": np.abs(change).max(1), "l2": np.sqrt((change**2).sum(1)), "l1": np.abs(change).sum(1)}[norm]


@norms
@given(seed=seeds, shape=shapes, dtype=dtypes, eps=radii, spread=st.sampled_from([1e-3, 0.1, 1.0, 1e4]))
def test_projection_is_in_ball_and_range(
    norm: str, seed: int, shape: tuple[int, ...], dtype: torch.dtype, eps: float, spread: float
) -> None:
    x, x_adv = draw(seed, shape, dtype, spread)
    projected = Threat(norm, eps).project(x_adv, x)
    assert projected.dtype == dtype
    assert (lengths(norm, projected, x) <= eps * (1 + 1e-6)).all()
    assert projected.min() >= 0
    assert projected.max() <= 1


@norms
@given(seed=seeds, shape=shapes, dtype=dtypes, eps=radii, spread=st.sampled_from([1e-3, 0.1, 1.0, 1e4]))
def test_projection_twice_is_projection_once(
    norm: str, seed: int, shape: tuple[int, ...], dtype: torch.dtype, eps: float, spread: float
) -> None:
    x, x_adv = draw(seed, shape, dtype, spread)
    threat = Threat(norm, eps)
    projected = threat.project(x_adv, x)
    assert torch.equal(threat.project(projected, x), projected)


@norms
@given(seed=seeds, shape=shapes, dtype=dtypes, eps=st.floats(0.01, 0.9))
def test_points_inside_stay(norm: str, seed: int, shape: tuple[int, ...], dtype: torch.dtype, eps: float) -> None:
    x, other = draw(seed, shape, dtype, 1.0)
    valid = other.clamp(0, 1)
    distance = torch.tensor(lengths(norm, valid, x)).clamp(min=1e-12)
    share = (0.99 * eps / distance).clamp(max=1.0).to(dtype).reshape(-1, *[1] * len(shape))
    inside = x + share * (valid - x)
    assert torch.equal(Threat(norm, eps).project(inside, x), inside)


@norms
@given(seed=seeds, shape=shapes, dtype=dtypes, eps=st.floats(1e-3, 5.0), offset=st.floats(-1e3, 1e3))
def test_without_a_range_only_the_ball_counts(
    norm: str, seed: int, shape: tuple[int, ...], dtype: torch.dtype, eps: float, offset: float
) -> None:
    x, x_adv = draw(seed, shape, dtype, 100.0)
    x, x_adv = x + offset, x_adv + offset
    projected = Threat(norm, eps, None, None).project(x_adv, x)
    assert (lengths(norm, projected, x) <= eps * (1 + 1e-6)).all()


@norms
def test_far_points_land_on_the_surface(norm: str) -> None:
    x = torch.zeros(1, 3, dtype=torch.float64)
    projected = Threat(norm, 0.5, None, None).project(torch.tensor([[3.0, 0.0, -4.0]], dtype=torch.float64), x)
    expected = {"linf": [[0.5, 0.0, -0.5]], "l2": [[0.3, 0.0, -0.4]], "l1": [[0.0, 0.0, -0.5]]}[norm]
    torch.testing.assert_close(projected, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)


@norms
def test_each_example_has_its_own_ball(norm: str) -> None:
    x, x_adv = draw(3, (3, 4, 4), torch.float64, 1.0)
    threat = Threat(norm, 0.25)
    together = threat.project(x_adv, x)
    alone = torch.cat([threat.project(x_adv[i : i + 1], x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(together, alone, rtol=1e-14, atol=0)


@norms
@given(seed=seeds, shape=shapes, dtype=dtypes, eps=radii)
def test_random_starts_are_permitted(
    norm: str, seed: int, shape: tuple[int, ...], dtype: torch.dtype, eps: float
) -> None:
    x, _ = draw(seed, shape, dtype, 0.0)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1
    noise[0] = -1.0
    noise[1] = 0.0
    start = Threat(norm, eps).start(x, noise)
    assert start.isfinite().all()
    assert (lengths(norm, start, x) <= eps * (1 + 1e-6)).all()
    assert start.min() >= 0
    assert start.max() <= 1


def nearest(x_adv: np.ndarray[Any, Any], x: np.ndarray[Any, Any], eps: float) -> np.ndarray[Any, Any]:
    """The nearest point of the l1 ball in 0…1, by halving the interval where its threshold lies."""
    size, room = np.abs(x_adv - x), np.abs(x_adv.clip(0, 1) - x)
    low, high = 0.0, float(size.max())
    if room.sum() <= eps:
        return x_adv.clip(0, 1)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(size - middle, room).clip(min=0).sum() > eps else (low, middle)
    return x + np.sign(x_adv - x) * np.minimum(size - high, room).clip(min=0)


@given(seed=seeds, shape=shapes, eps=st.floats(1e-4, 50), spread=st.sampled_from([1e-3, 0.1, 1.0, 1e4]))
def test_no_permitted_point_is_nearer_than_the_l1_projection(
    seed: int, shape: tuple[int, ...], eps: float, spread: float
) -> None:
    x, x_adv = draw(seed, shape, torch.float64, spread)
    x_adv[0] = x_adv[1]  # values that tie
    projected = Threat("l1", eps).project(x_adv, x)
    expected = [nearest(one.numpy(), clean.numpy(), eps) for one, clean in zip(x_adv, x, strict=True)]
    np.testing.assert_allclose(projected, np.stack(expected), rtol=0, atol=1e-9 * max(spread, 1.0))
    # of the nearest point of a convex set, none of its points lies on the other side
    other = Threat("l1", eps).project(torch.rand(x.shape, dtype=torch.float64), x)
    sides = ((x_adv - projected) * (other - projected)).flatten(1).sum(1)
    assert (sides <= 1e-9 * max(spread, 1.0)).all()


def test_linf_starts_are_uniform_in_the_ball() -> None:
    x = torch.full((4, 5), 0.5)
    noise = torch.rand(4, 5) * 2 - 1
    torch.testing.assert_close(Threat("linf", 0.1).start(x, noise), x + 0.1 * noise)


@pytest.mark.parametrize("size", [1, 2, 3072])
def test_l1_starts_have_a_uniform_direction_and_a_uniform_length(size: int) -> None:
    x = torch.zeros(2000, size)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    change = Threat("l1", 2.0, None, None).start(x, noise)
    length = change.abs().sum(1)
    expected = torch.linspace(0, 2, 2000)
    assert (length.sort().values - expected).abs().max() < 0.1  # Kolmogorov-Smirnov: 1.36 / sqrt(2000) * 2 = 0.06
    shares = change / length[:, None]
    assert (shares.sign().mean(0).abs() * math.sqrt(2000)).max() < 5
    # shares of a uniform point of the simplex have mean 1 / size and variance (size - 1) / (size² (size + 1))
    deviation = math.sqrt((size - 1) / (size + 1) / 2000) / size
    assert (shares.abs().mean(0) - 1 / size).abs().max() < 5 * deviation + 1e-6
    torch.testing.assert_close(shares.square().sum(1).mean(), torch.tensor(2 / (size + 1)), rtol=0.1, atol=0)


@pytest.mark.parametrize("size", [1, 2, 3072])
def test_l2_starts_have_a_uniform_direction_and_a_uniform_length(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(2000, size)
    noise = torch.rand(x.shape, generator=generator) * 2 - 1
    change = Threat("l2", 2.0, None, None).start(x, noise)
    length = change.norm(dim=1)
    expected = torch.linspace(0, 2, 2000)
    assert (length.sort().values - expected).abs().max() < 0.1  # Kolmogorov-Smirnov: 1.36 / sqrt(2000) * 2 = 0.06
    direction = change / length[:, None]
    assert (direction.mean(0) * math.sqrt(2000)).abs().max() < 5 / math.sqrt(size)
    torch.testing.assert_close(direction.square().mean(0), torch.full((size,), 1 / size), rtol=0.25, atol=0)


def test_linf_ascends_by_signs() -> None:
    gradient = torch.tensor([[1e-9, -3.0, 0.0]])
    moved = Threat("linf", 0.1).ascend(torch.zeros(1, 3), gradient, 0.02)
    torch.testing.assert_close(moved, torch.tensor([[0.02, -0.02, 0.0]]))


def test_l2_ascends_by_the_normalised_gradient_of_each_example() -> None:
    gradient = torch.tensor([[[3.0], [-4.0]], [[0.0], [2e-4]]])
    moved = Threat("l2", 0.1).ascend(torch.zeros(2, 2, 1), gradient, 0.5)
    torch.testing.assert_close(moved, torch.tensor([[[0.3], [-0.4]], [[0.0], [0.5]]]), rtol=1e-5, atol=0)


def test_l1_ascends_by_the_largest_hundredth_that_can_move() -> None:
    gradient = torch.arange(200.0).repeat(2, 1)
    x_adv = torch.full((2, 200), 0.5)
    x_adv[1, 199] = 1.0  # up from there it cannot move, down it can
    down = Threat("l1", 0.1).ascend(x_adv, -gradient, 0.5) - x_adv
    up = Threat("l1", 0.1).ascend(x_adv, gradient, 0.5) - x_adv
    assert [row.nonzero()[:, 0].tolist() for row in (*down, *up)] == [[198, 199], [198, 199], [198, 199], [197, 198]]
    assert down.unique().tolist() == [-0.25, 0.0]
    assert up.unique().tolist() == [0.0, 0.25]


def test_the_smallest_gradient_gives_a_whole_step() -> None:
    gradient = torch.full((1, 4), 1e-38)
    assert Threat("l2", 1.0).ascend(torch.zeros(1, 4), gradient, 1.0).norm() == pytest.approx(1.0)


@norms
@given(seed=seeds, shape=shapes)
def test_edges_are_as_far_away_as_a_point_can_be(norm: str, seed: int, shape: tuple[int, ...]) -> None:
    noise = torch.rand(6, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1
    threat = Threat(norm, 0.01, None, None)
    x = torch.zeros_like(noise)
    np.testing.assert_allclose(lengths(norm, threat.edge(x, noise), x), 0.01, rtol=1e-9)


@norms
def test_a_zero_gradient_moves_nothing(norm: str) -> None:
    x_adv = torch.rand(2, 3)
    assert torch.equal(Threat(norm, 0.1).ascend(x_adv, torch.zeros(2, 3), 0.5), x_adv)


@norms
@given(seed=seeds, shape=shapes)
def test_distance(norm: str, seed: int, shape: tuple[int, ...]) -> None:
    x, x_adv = draw(seed, shape, torch.float64, 1.0)
    np.testing.assert_allclose(Threat(norm, 0.5).distance(x_adv, x), lengths(norm, x_adv, x), rtol=1e-12)


@norms
def test_an_empty_batch_passes(norm: str) -> None:
    x = torch.zeros(0, 3, 4, 4)
    threat = Threat(norm, 0.1)
    assert threat.start(x, x).shape == x.shape
    assert threat.distance(x, x).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("linff", 0.1), r"norm='linff' is not one of linf, l2, l1\. Did you mean 'linf'\?"),
        (("linf", -0.1), r"eps=-0\.1 is not a finite number >= 0"),
        (("l2", math.nan), r"eps=nan is not a finite number >= 0"),
        (("l2", math.inf), r"eps=inf is not a finite number >= 0"),
        (("linf", 8.0), r"eps=8\.0 is larger than the valid range 0…1: write 8/255"),
        (("linf", 8), r"eps=8 is larger than the valid range 0…1: write 8/255"),
        (("linf", 300.0), r"eps=300\.0 is larger .* eps is in the units of the data"),
        (("linf", 0.1, None, 1.0), r"low=None and high=1\.0: give both"),
        (("linf", 0.1, 1.0, 0.0), r"1\.0…0\.0 is not a range"),
        (("linf", 0.1, 0.0, math.inf), r"0\.0…inf is not a range"),
    ],
)
def test_what_makes_no_threat_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Threat(*arguments)


def test_an_l2_radius_in_the_wrong_unit_is_found_at_the_first_inputs() -> None:
    threat = Threat("l2", 8.0)
    threat.check(torch.zeros(2, 3, 32, 32))
    with pytest.raises(UserError, match=r"eps=8\.0 reaches 8, the largest l2 distance .* of 64 values .* 8/255"):
        threat.check(torch.zeros(2, 1, 8, 8))


def test_an_l1_radius_is_counted_in_whole_values() -> None:
    threat = Threat("l1", 12.0)
    threat.check(torch.zeros(2, 3, 32, 32))
    with pytest.raises(UserError, match=r"eps=12\.0 reaches 4, the largest l1 distance .* in the units of the data"):
        threat.check(torch.zeros(2, 4))


def test_without_a_range_any_radius_may_be_meant() -> None:
    Threat("l2", 80.0, None, None).check(torch.zeros(2, 4))
    Threat("linf", 80.0, None, None).check(torch.zeros(2, 4))


def test_the_whole_range_is_a_permitted_radius() -> None:
    Threat("linf", 1.0).check(torch.zeros(2, 4))
