import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from poise.conformal.threshold import fewest, rank, spread, threshold, thresholds_by_class
from poise.errors import UserError

SPLITS, N, ALPHA = 2000, 50, 0.1


Find = Callable[[Tensor], float]


def coverages(find: Find) -> np.ndarray:
    """By simulation: of uniform scores, the coverage of the threshold that is found by N of them, for every split.

    Of a uniform score no more than q is what a share q of all examples has, so nothing is left to chance but the split.
    """
    scores = torch.rand(SPLITS, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return np.array([find(row) for row in scores])


def test_the_spread_of_coverage_is_that_of_many_splits() -> None:
    low, high = spread(N, ALPHA)
    found = coverages(partial(threshold, alpha=ALPHA))
    # 2.5 % on each side, within four standard errors of 2000 splits
    assert abs((found < low).mean() - 0.025) < 0.014
    assert abs((found > high).mean() - 0.025) < 0.014
    assert spread(8, ALPHA) == (1, 1)


def off_by(places: int) -> Find:
    """The score so many places above the right one."""
    return lambda row: float(row.sort().values[45 + places])  # ⌈51 · 0.9⌉ = 46, from 0


def is_guaranteed(coverage: np.ndarray) -> bool:
    """Whether the mean coverage is in [1 - alpha, 1 - alpha + 1/(n + 1)], within three standard errors."""
    slack = 3 * coverage.std(ddof=1) / math.sqrt(len(coverage))
    return bool(1 - ALPHA - slack <= coverage.mean() <= 1 - ALPHA + 1 / (N + 1) + slack)


def is_beta_distributed(coverage: np.ndarray) -> bool:
    """Whether it follows Beta(k, n + 1 - k), as it does given the split."""
    return bool(stats.kstest(coverage, stats.beta(46, N + 1 - 46).cdf).pvalue > 1e-3)


def test_over_many_splits_coverage_is_what_is_promised_and_a_place_further_down_it_is_not() -> None:
    assert is_guaranteed(coverages(partial(threshold, alpha=ALPHA)))
    assert not is_guaranteed(coverages(off_by(-1)))
    assert not is_guaranteed(coverages(lambda row: float(row.quantile(1 - ALPHA))))  # without the one that is to come


def test_given_the_split_coverage_is_beta_distributed_and_a_place_further_down_or_up_it_is_not() -> None:
    assert is_beta_distributed(coverages(partial(threshold, alpha=ALPHA)))
    assert not any(is_beta_distributed(coverages(off_by(places))) for places in (-1, 1))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 1 / 3])
def test_below_the_fewest_examples_nothing_is_too_strange(alpha: float) -> None:
    scores = torch.arange(float(fewest(alpha)))
    assert threshold(scores, alpha) == len(scores) - 1
    assert threshold(scores[1:], alpha) == math.inf
    assert rank(len(scores), alpha) == len(scores)


def test_rounding_lifts_no_place() -> None:
    assert (9 + 1) * (1 - 0.1) == 9.0
    assert rank(9, 0.1) == 9
    assert math.ceil((29 + 1) * (1 - 0.7)) == 10  # as floats are
    assert rank(29, 0.7) == 9
    assert [fewest(alpha) for alpha in (0.1, 0.05, 0.2)] == [9, 19, 4]


def test_a_score_that_is_no_number_is_the_largest() -> None:
    scores = torch.tensor([math.nan, *range(10)])
    assert threshold(scores, 0.1) == math.inf
    assert threshold(scores, 0.2) == 9.0


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.sampled_from([0.05, 0.1, 0.3]), st.integers(0, 20))
def test_coverage_holds_for_every_exchangeable_row_of_scores(scores: list[int], alpha: float, last: int) -> None:
    """Each of n + 1 scores is the one left out as often: counted over all, none is chance. Ties included."""
    whole = [*scores, last]
    covered = [
        value <= threshold(torch.tensor([*whole[:place], *whole[place + 1 :]]).double(), alpha)
        for place, value in enumerate(whole)
    ]
    assert sum(covered) >= (1 - alpha) * len(whole) - 1e-9


def test_each_class_has_the_threshold_of_its_own_examples() -> None:
    label = torch.tensor([0] * 9 + [1] * 8 + [3] * 20)
    scores = torch.rand(37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = thresholds_by_class(scores, label, 4, 0.1)
    of_class = partial(threshold, alpha=0.1)
    assert found.tolist() == [of_class(scores[:9]), math.inf, math.inf, of_class(scores[17:])]
    assert math.isfinite(float(found[0]))


@pytest.mark.parametrize("alpha", [0, 1.0, -1, 1.5, math.nan, "0.1", None, torch.tensor(0.1)])
def test_alpha_is_a_share_between_none_and_all(alpha: Any) -> None:
    asked = [partial(inspect.unwrap(rank), 9), inspect.unwrap(fewest)]  # without the checker of annotations
    if isinstance(alpha, int | float):
        asked += [partial(threshold, torch.rand(9))]
    for look in asked:
        with pytest.raises(UserError, match=r"^alpha=.* of a threshold is not a number between 0 and 1\.$"):
            look(alpha)


def test_what_are_no_scores_of_examples_is_refused() -> None:
    look = inspect.unwrap(threshold)  # without the checker of annotations, which would speak first
    with pytest.raises(UserError, match=r"^strangeness is of type ndarray: give a torch tensor"):
        look(np.zeros(9), 0.1)
    with pytest.raises(UserError, match=r"^strangeness has shape \(9, 1\): a threshold takes a score for each example"):
        look(torch.zeros(9, 1), 0.1)


def test_a_threshold_of_each_class_is_of_labels_that_are_classes() -> None:
    for label in (torch.tensor([0, 1, 2]), torch.tensor([0, -1, 1])):
        with pytest.raises(UserError, match=r"of what thresholds_by_class takes has a label outside 0…1 \(1 of 3 do\)"):
            thresholds_by_class(torch.rand(3), label, 2, 0.1)
    with pytest.raises(
        UserError, match=r"^thresholds_by_class takes integer labels \[3\], not torch.int64 of shape \(2,\)"
    ):
        inspect.unwrap(thresholds_by_class)(torch.rand(3), torch.zeros(2).long(), 2, 0.1)
