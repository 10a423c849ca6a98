"""Resamples are paired, hang on positions alone, and their intervals hold what they should."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from poise.errors import UserError
from poise.metrics import bootstrap, resampled_summaries
from poise.metrics.bootstrap import Resampled, Scores
from poise.metrics.counted import counted_scores
from poise.metrics.summary import summarised


def mean_of(values: Tensor) -> Scores:
    return lambda times: {"mean": times @ values / times.sum(1)}


def task(size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    keyed = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, 4, generator=keyed, dtype=torch.float64)
    logits[::3] = logits[::3].round()  # with ties
    return logits, torch.randint(4, (size,), generator=keyed)


@given(times=st.lists(st.integers(0, 3), min_size=1, max_size=30).filter(any), bins=st.integers(1, 20))
def test_counted_scores_are_those_of_repeated_examples(times: list[int], bins: int) -> None:
    logits, labels = task(len(times))
    often = torch.tensor(times)
    found = counted_scores(logits, labels, bins)(torch.stack([torch.ones_like(often), often]).double())
    for row, repeats in enumerate((torch.ones_like(often), often)):
        expected = summarised(logits.repeat_interleave(repeats, 0), labels.repeat_interleave(repeats), bins).scores
        scores = {name: float(score[row]) for name, score in found.items() if not score[row].isnan()}
        assert scores == pytest.approx(expected, abs=1e-12)


def test_neither_order_nor_the_number_of_resamples_changes_a_resample() -> None:
    logits, labels = task(3000)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(1))
    whole = resampled_summaries({"a": logits}, labels, torch.arange(3000), resamples=500)["a"]["nll"]
    shuffled = resampled_summaries({"a": logits[order]}, labels[order], order, resamples=20)["a"]["nll"]
    torch.testing.assert_close(shuffled.replicates, whole.replicates[:20], rtol=0, atol=1e-12)
    other = resampled_summaries({"a": logits}, labels, torch.arange(3000), resamples=20, seed=1)["a"]["nll"]
    assert not (other.replicates == whole.replicates[:20]).any()


def test_columns_share_their_resamples() -> None:
    logits, labels = task(400)
    found = resampled_summaries({"a": logits, "b": logits + 1, "c": logits / 2}, labels, torch.arange(400))
    same = (found["a"]["ece"] - found["b"]["ece"]).interval()
    assert (same.low, same.high) == pytest.approx((0, 0), abs=1e-12)
    apart = (found["c"]["accuracy"] - found["a"]["accuracy"]).interval()
    assert (apart.low, apart.high) == (0, 0)
    cooler = found["a"]["nll"] - found["c"]["nll"]
    paired, alone = cooler.interval(), found["a"]["nll"].interval()
    assert paired.low < cooler.estimate < paired.high
    assert paired.high - paired.low < alone.high - alone.low


def test_intervals_of_means_hold_them_as_often_as_they_say() -> None:
    keyed = torch.Generator().manual_seed(0)
    held, widths = [], []
    for _ in range(300):
        values = torch.randn(100, generator=keyed, dtype=torch.float64)
        interval = bootstrap({"a": mean_of(values)}, torch.arange(100), resamples=300)["a"]["mean"].interval(0.9)
        held.append(interval.low <= 0 <= interval.high)
        widths.append(interval.high - interval.low)
    assert np.mean(held) == pytest.approx(0.9, abs=0.05)
    assert np.mean(widths) == pytest.approx(2 * 1.645 * 0.1, rel=0.05)


def test_counts_are_poisson_with_mean_one() -> None:
    seen = []

    def scores(times: Tensor) -> dict[str, Tensor]:
        seen.append(times)
        return {"size": times.sum(1)}

    bootstrap({"a": scores}, torch.arange(200), resamples=500)
    assert torch.equal(seen[0], torch.ones(1, 200, dtype=torch.float64))
    times = torch.cat(seen[1:])
    assert times.shape == (500, 200)
    shares = [float((times == k).double().mean()) for k in range(4)]
    assert shares == pytest.approx([math.exp(-1) / math.factorial(k) for k in range(4)], abs=0.01)
    assert abs(float(torch.corrcoef(times.flatten().view(2, -1))[0, 1])) < 0.02


def test_an_interval_stays_within_bounds() -> None:
    found = Resampled(0.1, torch.linspace(0, 1, 1001, dtype=torch.float64), (0.0, 1.0))
    interval = found.interval()
    assert (interval.low, interval.high) == pytest.approx((0, 0.175))
    assert (found - Resampled(0.0, torch.zeros(1001, dtype=torch.float64))).interval().low == pytest.approx(-0.775)


def test_resamples_without_examples_are_left_out() -> None:
    found = bootstrap({"a": mean_of(torch.tensor([1.0, 3.0], dtype=torch.float64))}, torch.arange(2))["a"]["mean"]
    assert float(found.replicates.isnan().double().mean()) == pytest.approx(math.exp(-2), abs=0.03)
    interval = found.interval()
    assert (interval.low, interval.high) == (1, 3)


def test_scores_that_are_no_finite_number_stay_away() -> None:
    logits = torch.tensor([[0.0, -math.inf], [1.0, 0.0]])
    found = resampled_summaries({"a": logits}, torch.tensor([1, 0]), torch.arange(2))["a"]
    assert "nll" not in found  # a label without probability
    assert "mce" not in found  # too few examples
    assert {"accuracy", "brier", "ece"} <= set(found)


def test_what_gives_no_interval_is_refused() -> None:
    for size, resamples, told in ((0, 10, "There are no examples"), (5, 0, "resamples=0 of bootstrap is not a whole")):
        with pytest.raises(UserError, match=f"^{told}"):
            bootstrap({"a": mean_of(torch.zeros(size))}, torch.arange(size), resamples=resamples)
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(UserError, match=f"level={level} of an interval is not a number between 0 and 1"):
            Resampled(0.1, torch.zeros(3)).interval(level)


@pytest.mark.parametrize("bins", [0, -1, 10_001])
def test_no_bins_and_too_many_are_refused(bins: int) -> None:
    with pytest.raises(UserError, match=rf"^bins={bins} of resampled_summaries is not a whole number in 1…10,000\.$"):
        resampled_summaries({"a": torch.zeros(3, 2)}, torch.zeros(3).long(), torch.arange(3), bins)
