"""Selection by confidence: an identity, and what goes wrong elsewhere."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.metrics import AreaUnderGeneralisedRiskCoverage, AreaUnderRiskCoverage, CoverageAtRisk, RiskAtCoverage
from poise.metrics.levels import Levels
from poise.metrics.risk_coverage import RiskCoverage

examples = st.lists(st.tuples(st.sampled_from([0.2, 0.4, 0.5, 0.7, 0.9, 1.0]), st.booleans()), min_size=1, max_size=40)


def levels_of(rows: list[tuple[float, bool]]) -> Levels:
    confidence, correct = torch.tensor(rows, dtype=torch.float64).T
    return Levels.of(confidence, correct)


@given(rows=examples)
def test_the_generalised_area_is_told_by_pairs_of_right_and_wrong(rows: list[tuple[float, bool]]) -> None:
    right, wrong = ([value for value, correct in rows if correct is is_right] for is_right in (True, False))
    apart = sum((a > b) + (a == b) / 2 for a in right for b in wrong)
    error = len(wrong) / len(rows)
    expected = error * (1 - error) - apart / len(rows) ** 2 + error**2 / 2
    assert float(RiskCoverage.of(levels_of(rows)).generalised_area) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("correct", "risk"), [(1.0, 0.0), (0.0, 1.0)])
def test_all_right_and_all_wrong(correct: float, risk: float) -> None:
    levels = levels_of([(0.3, correct == 1), (0.3, correct == 1), (0.9, correct == 1)])
    assert float(AreaUnderRiskCoverage().measured(levels)) == risk
    assert float(AreaUnderGeneralisedRiskCoverage().measured(levels)) == risk / 2
    assert float(RiskAtCoverage(0.5).measured(levels)) == risk
    assert float(CoverageAtRisk(1.0).measured(levels)) == 1


def test_a_wrong_prediction_that_is_the_most_confident_hides_no_coverage() -> None:
    levels = levels_of([(0.9, False), (0.8, True), (0.7, True), (0.6, True)])
    assert float(CoverageAtRisk(0.3).measured(levels)) == 1
    assert math.isnan(float(CoverageAtRisk(0.2).measured(levels)))


def test_equal_confidences_are_accepted_together() -> None:
    levels = levels_of([(0.9, True), (0.5, False), (0.5, True), (0.5, True), (0.1, False)])
    assert float(RiskAtCoverage(0.3).measured(levels)) == pytest.approx(1 / 4)
    assert float(CoverageAtRisk(0.25).measured(levels)) == pytest.approx(4 / 5)


@given(rows=examples, times=st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_levels_that_a_resample_leaves_empty_change_nothing(rows: list[tuple[float, bool]], times: list[int]) -> None:
    counted = [row for row, often in zip(rows, times, strict=False) for _ in range(often)]
    confidence, correct = torch.tensor(rows, dtype=torch.float64).T
    often = torch.tensor(times[: len(rows)], dtype=torch.float64)
    for metric in (
        AreaUnderRiskCoverage(),
        AreaUnderGeneralisedRiskCoverage(),
        RiskAtCoverage(0.4),
        CoverageAtRisk(0.5),
    ):
        if counted:
            found = metric.measured(Levels.of(confidence, correct, often.expand(2, -1)))
            expected = metric.measured(levels_of(counted)).expand(2)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, equal_nan=True)
