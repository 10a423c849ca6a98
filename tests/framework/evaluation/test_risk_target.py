import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from poise.evaluation.risk_target import enough, fewest, selection, upper_bound
from smoothed import too_many

ALPHA, TARGET, EXAMPLES = 0.1, 0.1, 1000


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """Strangeness in 0…1, of which a share of 0.4 · strangeness is wrong: the risk below t is 0.2 · t."""
    generator = torch.Generator().manual_seed(seed)
    strangeness, chance = torch.rand(2, EXAMPLES, dtype=torch.float64, generator=generator)
    return strangeness, chance < 0.4 * strangeness


def risk(threshold: float) -> float:
    return 0.2 * min(max(threshold, 0.0), 1.0)


def by_share(strangeness: Tensor, wrong: Tensor) -> float:
    """The largest threshold with a share of errors of the target or less, which promises nothing."""
    order = strangeness.argsort()
    shares = wrong[order].cumsum(0) / torch.arange(1, EXAMPLES + 1)
    return float(strangeness[order][int((shares <= TARGET).nonzero().max())])


def test_the_promise_is_broken_in_a_share_of_alpha_at_most_and_that_of_the_plain_share_in_more() -> None:
    trials = 600
    found = [selection(*drawn(seed), TARGET, ALPHA) for seed in range(trials)]
    assert not too_many(sum(risk(each.threshold) > TARGET for each in found), trials, ALPHA)
    assert sum(each.promises for each in found) > trials / 2
    assert too_many(sum(risk(by_share(*drawn(seed))) > TARGET for seed in range(trials)), trials, ALPHA)


def test_the_largest_share_that_keeps_the_target_is_taken() -> None:
    strangeness = torch.arange(200, dtype=torch.float64)
    wrong = strangeness >= 150
    found = selection(strangeness, wrong, 0.1, 0.05)
    assert found.threshold == 150
    assert found.accepts(torch.tensor([149.0, 150.0, math.nan])).tolist() == [True, False, False]
    bounds = [upper_bound(max(0, count - 150), count, 0.05 / 20) for count in range(10, 201, 10)]
    assert found.bound == pytest.approx(bounds[14])
    assert bounds[14] <= 0.1 < bounds[15]


def test_all_are_accepted_where_all_are_right_and_none_where_nothing_can_be_promised() -> None:
    assert selection(torch.rand(500), torch.zeros(500).bool(), 0.05, 0.05).threshold == math.inf
    for examples, wrong in ((500, 1), (50, 0), (0, 0)):  # all wrong; all right but too few; none
        found = selection(torch.rand(examples), torch.full((examples,), bool(wrong)), 0.05, 0.05)
        assert found.threshold == -math.inf
        assert not found.promises
        assert not found.accepts(torch.tensor([-1e9])).any()


@pytest.mark.parametrize(("target", "alpha"), [(0.05, 0.05), (0.01, 0.1), (0.3, 0.5)])
def test_a_promise_takes_a_number_of_examples_that_is_told(target: float, alpha: float) -> None:
    needed = fewest(target, alpha)
    for examples, promises in ((needed, True), (needed - 1, False)):
        found = selection(torch.rand(examples), torch.zeros(examples).bool(), target, alpha)
        assert found.promises == promises
    assert needed <= (found.enough or 0) <= 2 * needed
    assert (fewest(0.05, 0.05), fewest(0.01, 0.05)) == (117, 597)


def test_how_many_would_do_is_what_as_many_copies_of_these_examples_would_do() -> None:
    strangeness, wrong = (each[:150] for each in drawn(3))
    found = selection(strangeness, wrong, 0.05, 0.05)
    assert found.enough is not None
    for examples, promises in ((found.enough, True), (found.enough // 2, False)):
        copies = examples // 150
        assert selection(strangeness.repeat(copies), wrong.repeat(copies), 0.05, 0.05).promises == promises
    assert enough(strangeness, torch.ones(150).bool(), 0.05, 0.05) is None


def test_of_equal_scores_all_are_accepted_or_none() -> None:
    found = selection(torch.cat([torch.zeros(300), torch.ones(300)]), torch.arange(600) >= 300, 0.05, 0.05)
    assert found.accepts(torch.tensor([0.0, 1.0])).tolist() == [True, False]


@pytest.mark.parametrize(("wrong", "accepted"), [(0, 10), (3, 10), (10, 10), (7, 1000)])
def test_the_bound_is_clopper_and_pearsons(wrong: int, accepted: int) -> None:
    expected = stats.binomtest(wrong, accepted, alternative="less").proportion_ci(0.95, "exact").high
    assert upper_bound(wrong, accepted, 0.05) == pytest.approx(expected)
