import inspect

import pytest
import torch
from scipy import stats

from poise.conformal.measures import Measured
from poise.errors import UserError

SETS = torch.tensor(
    [
        [True, False, False, False],
        [False, False, False, False],
        [True, True, False, False],
        [True, True, True, True],
        [False, True, True, False],
    ]
)
LABEL = torch.tensor([0, 0, 2, 1, 1])


def test_by_hand() -> None:
    found = Measured.of(SETS.repeat(5, 1), LABEL.repeat(5))
    assert found.covered.tolist() == [True, False, False, True, True] * 5
    assert found.counts == (5, 5, 10, 0, 5)
    assert found.coverage_by_size() == {"0-1": 0.5, "2-3": 0.5}  # five sets of all labels are too few
    assert found.coverage_by(LABEL.repeat(5)) == {0: 0.5, 1: 1.0, 2: 0.0}
    metrics = found.metrics(0.1)
    interval = stats.binomtest(15, 25).proportion_ci(0.95, "exact")
    assert (metrics.pop("coverage_low"), metrics.pop("coverage_high")) == pytest.approx((interval.low, interval.high))
    assert metrics == pytest.approx(
        {
            "coverage": 0.6,
            "mean_size": 9 / 5,
            "empty": 0.2,
            "single": 0.2,
            "full": 0.2,
            "worst_class_coverage": 0.0,
            "mean_class_coverage_gap": (0.4 + 0.1 + 0.9) / 3,
            "largest_size_coverage_gap": 0.4,
            "coverage_of_size/0-1": 0.5,
            "coverage_of_size/2-3": 0.5,
        }
    )


@pytest.mark.parametrize("hits", [0, 4])
def test_the_interval_at_its_ends(hits: int) -> None:
    found = Measured(torch.arange(4) < hits, torch.ones(4).long(), torch.zeros(4).long(), 2)
    interval = stats.binomtest(hits, 4).proportion_ci(0.95, "exact")
    assert found.interval == pytest.approx((interval.low, interval.high))
    assert "largest_size_coverage_gap" not in found.metrics(0.1)


def test_large_sets_stand_together() -> None:
    sizes = torch.tensor([0, 1, 2, 10, 11, 100, 101, 1000, 1001, 5000]).repeat(10)
    found = Measured(torch.ones(100).bool(), sizes, torch.zeros(100).long(), 5000)
    assert list(found.coverage_by_size()) == ["0-1", "2-3", "7-10", "11-100", "101-1000", "more"]


def test_the_worst_group_is_told_of_where_there_are_groups() -> None:
    found = Measured.of(SETS, LABEL, torch.tensor([0, 3, 3, 3, 0]))
    assert found.metrics(0.1)["worst_group_coverage"] == pytest.approx(1 / 3)
    assert "worst_group_coverage" not in Measured.of(SETS, LABEL).metrics(0.1)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match=r"^There are no sets to measure: give one example or more\.$"):
        Measured.of(SETS[:0], LABEL[:0]).metrics(0.1)
    with pytest.raises(UserError, match=r"^Example 1 of what Measured takes has a label outside 0…3 \(1 of 5 do\)"):
        Measured.of(SETS, torch.tensor([0, 4, 0, 0, 0]))
    look = inspect.unwrap(vars(Measured)["of"].__func__)  # without the checker of annotations, which would speak first
    with pytest.raises(UserError, match=r"^Measured takes sets as truth values \[N, C\], not torch.float32 \(5, 4\)"):
        look(Measured, SETS.float(), LABEL)
