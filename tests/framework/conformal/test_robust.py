import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from poise.conformal.robust import bernstein, hoeffding, hps, ptt, robust_sets, robust_threshold
from poise.conformal.threshold import threshold
from poise.errors import UserError

COPIES, BETA = 256, 0.001


def scores(count: int, seed: int, classes: int = 4) -> torch.Tensor:
    return torch.rand(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_bounds_by_hand() -> None:
    assert hoeffding(256, 0.001) == pytest.approx(0.1162, abs=5e-5)
    assert hoeffding(1024, 0.001) == pytest.approx(0.0581, abs=5e-5)
    assert float(bernstein(torch.zeros(1, 1), 256, 0.001)) == pytest.approx(0.0695, abs=1e-4)
    spread = float(bernstein(torch.full((1, 1), 0.25), 256, 0.001)) - float(bernstein(torch.zeros(1, 1), 256, 0.001))
    assert spread == pytest.approx(math.sqrt(0.5 * math.log(2000) / 256))


@pytest.mark.parametrize(("a", "b"), [(0.05, 0.05), (2.0, 5.0), (0.5, 20.0)])
def test_each_bound_fails_in_a_share_of_beta_at_most(a: float, b: float) -> None:
    trials, copies, beta = 20_000, 40, 0.05
    sampled = torch.from_numpy(stats.beta.rvs(a, b, size=(trials, copies), random_state=0))
    mean, variance = sampled.mean(1), sampled.var(1)
    for bound, missed in (
        (hoeffding(copies, beta), a / (a + b) - mean),
        (bernstein(variance[:, None], copies, beta)[:, 0], mean - a / (a + b)),
    ):
        assert stats.binom.sf(int((missed > bound).sum()) - 1, trials, beta) > 1e-6


@given(st.integers(0, 10_000), st.integers(9, 60))
def test_without_noise_sets_are_those_of_plain_conformal_prediction(seed: int, count: int) -> None:
    most = threshold(scores(count, seed)[:, 0], 0.1)
    tests = scores(50, seed + 1)
    nothing = torch.zeros_like(tests)
    assert torch.equal(robust_sets(tests, nothing, most, 0.0, 0.0), tests <= most)
    assert torch.equal(robust_sets(tests.round(), nothing, 0.0, 0.0, 0.0), tests.round() <= 0.0)


@given(st.integers(0, 10_000), st.floats(0, 2), st.floats(0, 2), st.floats(0, 0.3))
def test_larger_balls_and_bounds_give_supersets(seed: int, one: float, other: float, slack: float) -> None:
    tests, near, far = scores(50, seed), min(one, other), max(one, other)
    nothing = torch.zeros_like(tests)
    small = robust_sets(tests, nothing, 0.4, 0.0, near)
    for larger in (
        robust_sets(tests, nothing, 0.4, 0.0, far),
        robust_sets(tests, nothing + slack, 0.4, 0.0, near),
        robust_sets(tests, nothing, 0.4, slack, near),
    ):
        assert (larger | ~small).all()


def test_at_the_ends_nothing_is_undefined() -> None:
    ends = torch.tensor([[0.0, 1.0, 0.5]], dtype=torch.float64)
    nothing = torch.zeros_like(ends)
    assert robust_sets(ends, nothing, 0.95, 0.1, 0.5).all()  # where q⁺ and its slack reach 1, every label is in
    assert robust_sets(ends, nothing, math.inf, 0.0, 0.5).all()
    assert robust_sets(ends, nothing, 0.5, 0.0, 0.0).tolist() == [[True, False, True]]
    assert robust_sets(nothing + math.nan, nothing, 0.5, 0.0, 0.0).all()


def test_the_bound_over_the_distance_is_that_of_a_gaussian() -> None:
    """A score that jumps at a plane moves by the whole of distance/σ, so the bound is tight there."""
    sigma, eps, plane = 0.5, 0.25, 0.3
    clean, attacked = (torch.tensor([[stats.norm.cdf((x - plane) / sigma)]]) for x in (0.0, eps))
    nothing = torch.zeros_like(clean)
    most = float(clean)
    assert robust_sets(attacked, nothing, most, 0.0, eps / sigma + 1e-9).all()
    assert not robust_sets(attacked, nothing, most, 0.0, eps / sigma - 1e-9).any()


def test_ptt_sends_true_labels_to_zero_and_keeps_the_order() -> None:
    held_out = scores(500, 0)[:, 0]
    transformed = ptt(held_out, 0.1)
    some = scores(400, 1)
    found = transformed(some)
    assert ((found >= 0) & (found <= 1)).all()
    rising = some.flatten().argsort()
    assert (found.flatten()[rising].diff() >= 0).all()
    quantile = torch.quantile(held_out, torch.tensor([0.87, 0.93], dtype=torch.float64))
    assert transformed(quantile[None])[0].tolist() == pytest.approx([0, 1], abs=1e-4)
    by_hand = ptt(torch.tensor([0.1, 0.2, 0.3, 0.4]), 0.5)(torch.tensor([[0.05, 0.2, 0.25, 0.35]]))
    share = torch.tensor([[0.0, 0.5, 0.5, 0.75]], dtype=torch.float64)
    torch.testing.assert_close(by_hand, torch.sigmoid(400 * (share - 0.5)))


def test_scores_of_copies_are_what_is_left_to_one() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    torch.testing.assert_close(hps(logits), torch.tensor([[0.75, 0.25]], dtype=torch.float64))


def test_over_many_splits_coverage_is_that_of_the_place_of_the_threshold() -> None:
    """Without slack and ball it is that of the k-th smallest of n mean scores, k/(n + 1), k at 1 - alpha + 2·beta."""
    splits, n, place = 400, 45, 44  # ⌈46 · 0.94⌉
    keyed = torch.Generator().manual_seed(0)
    strangeness = torch.rand(splits, n + 200, 16, generator=keyed).double().mean(2)
    shares = []
    for known, tests in zip(strangeness[:, :n], strangeness[:, n:, None], strict=True):
        most = robust_threshold(known, 0.1, 0.02)
        shares.append(robust_sets(tests, torch.zeros_like(tests), most, 0.0, 0.0).double().mean())
    found = torch.stack(shares)
    error = 4 * float(found.std()) / splits**0.5
    assert abs(float(found.mean()) - place / (n + 1)) < error
    assert all(abs(float(found.mean()) - (place + off) / (n + 1)) > error for off in (-1, 1))


def test_the_threshold_leaves_room_for_both_bounds() -> None:
    known = scores(999, 0)[:, 0]
    assert robust_threshold(known, 0.1, BETA) == threshold(known, 0.098) > threshold(known, 0.1)
    with pytest.raises(
        UserError, match=r"^beta=0\.05 takes 2·beta off alpha=0\.1, which leaves nothing: set beta below 0\.05\.$"
    ):
        robust_threshold(known, 0.1, 0.05)


def test_shares_are_between_none_and_all() -> None:
    with pytest.raises(UserError, match=r"^beta=0 of robust sets is not a number between 0 and 1\.$"):
        robust_threshold(scores(9, 0)[:, 0], 0.1, 0)
    with pytest.raises(UserError, match=r"^alpha=1\.0 of ptt is not a number between 0 and 1\.$"):
        ptt(scores(9, 0)[:, 0], 1.0)
