import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, inf

from distorted import skewed
from held_out import predictions
from poise.calibrator import Calibrator, keep_prediction
from poise_recipes.calibration.beta_calibration import BetaCalibration
from poise_recipes.calibration.histogram_binning import HistogramBinning
from poise_recipes.calibration.isotonic import Isotonic
from poise_recipes.calibration.isotonic_pooled import IsotonicPooled
from poise_recipes.calibration.one_vs_rest import (
    lifted,
    log_probabilities,
    log_rest,
    mixed_with_uniform,
    normalised,
    occurred,
    tell_of_few,
)
from poise_recipes.calibration.spline import Spline

ROWS = arrays.arrays(np.float64, (5, 4), elements=st.one_of(st.floats(-800, 800), st.sampled_from([0.0, 1.0, 300.0])))
SHARES = arrays.arrays(np.float64, (5, 4), elements=st.floats(0, 1))


def masked(logits: Tensor) -> Tensor:
    """The last class is possible in the first row alone."""
    return torch.cat([logits[:1], logits[1:].index_fill(1, torch.tensor([logits.shape[1] - 1]), -inf)])


def assert_rows_sum_to_one(rows: Tensor) -> None:
    torch.testing.assert_close(rows.exp().sum(-1), torch.ones(len(rows), dtype=rows.dtype))


def test_what_is_left_is_exact_where_a_probability_rounds_to_one() -> None:
    log_p = log_probabilities(torch.tensor([[80.0, 0.0, 1.0], [0.3, 0.2, 0.1]]))
    wanted = [-80 + math.log(1 + math.e), *(1 - log_p[1].exp()).log().tolist()]
    assert log_p[0, 0].exp() == 1
    assert [float(log_rest(log_p)[0, 0]), *log_rest(log_p)[1].tolist()] == pytest.approx(wanted, rel=1e-12)


def test_nothing_is_left_where_the_others_are_masked() -> None:
    log_p = log_probabilities(torch.tensor([[2.0, -inf], [-inf, 3.0]]))
    assert torch.equal(log_rest(log_p), log_p.flip(1))


def test_what_occurred_is_the_label() -> None:
    held_out = predictions(torch.zeros(3, 2), torch.tensor([1, 0, 1]))
    assert occurred(held_out).tolist() == [[False, True], [True, False], [False, True]]


def test_shares_are_divided_by_their_sum() -> None:
    log_p = log_probabilities(torch.zeros(1, 3))
    shares = torch.tensor([[0.2, 0.6, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(
        normalised(shares.log(), log_p).exp(), torch.tensor([[0.25, 0.75, 0.0]], dtype=torch.float64)
    )


@given(ROWS, SHARES)
def test_every_row_of_shares_sums_to_one_and_rows_of_zeros_stay(values: Any, shares: Any) -> None:
    log_p = log_probabilities(masked(torch.from_numpy(values)))
    share = torch.from_numpy(shares)
    rows = normalised(share.log(), log_p)
    assert_rows_sum_to_one(rows)
    assert (rows[log_p == -inf] == -inf).all()
    empty = (share * (log_p > -inf)).sum(-1) == 0
    assert torch.equal(rows[empty], log_p[empty])


@given(ROWS, arrays.arrays(np.float64, 5, elements=st.floats(0, 1)))
def test_a_lifted_confidence_keeps_prediction_and_the_proportions_of_the_rest(values: Any, confidence: Any) -> None:
    log_p = log_probabilities(masked(torch.from_numpy(values)))
    wanted = torch.from_numpy(confidence)
    rows = lifted(log_p, wanted)
    assert_rows_sum_to_one(rows)
    assert torch.equal(keep_prediction(rows, log_p).argmax(-1), log_p.argmax(-1))
    top = log_p.argmax(-1, keepdim=True)
    others = log_p.scatter(-1, top, -inf).softmax(-1)
    found = rows.gather(-1, top)[:, 0].exp()
    torch.testing.assert_close(rows.exp().scatter(-1, top, 0.0), (1 - found)[:, None] * others, rtol=1e-9, atol=1e-12)
    assert (found >= wanted * (1 - 1e-12)).all()
    raised = found > wanted + 1e-12
    highest = rows.scatter(-1, top, -inf).amax(-1).exp()
    torch.testing.assert_close(found[raised], highest[raised])


def test_a_row_that_is_no_number_stays_none() -> None:
    log_p = log_probabilities(torch.tensor([[math.nan, 1.0], [2.0, 1.0]]))
    rows = mixed_with_uniform(normalised(torch.zeros(2, 2, dtype=torch.float64), log_p), log_p, examples=5)
    assert rows.isnan().tolist() == [[True, True], [False, False]]


def test_a_row_with_one_possible_class_is_not_lifted() -> None:
    log_p = log_probabilities(torch.tensor([[-inf, 2.0, -inf]]))
    assert torch.equal(lifted(log_p, torch.tensor([0.3], dtype=torch.float64)), log_p)


def test_one_example_more_is_spread_over_the_possible_classes() -> None:
    log_p = log_probabilities(torch.tensor([[0.0, 0.0, -inf]]))
    row = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).log()
    wanted = torch.tensor([[0.9 + 0.05, 0.05, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(mixed_with_uniform(row, log_p, examples=9).exp(), wanted)


@given(ROWS, st.integers(1, 10**6))
def test_the_mixture_keeps_the_order_and_leaves_no_label_impossible(values: Any, examples: int) -> None:
    log_p = log_probabilities(masked(torch.from_numpy(values)))
    rows = mixed_with_uniform(log_p, log_p, examples)
    assert_rows_sum_to_one(rows)
    assert (rows >= -math.log(4 * (examples + 1)) - 1e-9)[log_p > -inf].all()
    order = log_p.argsort(-1)
    assert (rows.gather(-1, order).diff(dim=-1).nan_to_num(0.0) >= 0).all()


def test_classes_with_few_examples_are_told(caplog: pytest.LogCaptureFixture) -> None:
    logits = torch.zeros(45, 4).index_fill(1, torch.tensor([3]), -inf)
    with caplog.at_level(logging.WARNING, "poise"):
        tell_of_few("isotonic", predictions(logits, torch.tensor([0] * 20 + [1] * 25)))
    assert caplog.messages == ["isotonic: 1 of 3 classes have fewer than 20 examples"]


def test_enough_examples_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    tell_of_few("isotonic", predictions(torch.zeros(40, 2), torch.tensor([0, 1] * 20)))
    assert caplog.messages == []


# -- calibrators made of it ----------------------------------------------------------------------------------------

every = pytest.mark.parametrize("kind", [BetaCalibration, HistogramBinning, Isotonic, IsotonicPooled, Spline])


@every
def test_what_is_added_to_a_row_changes_nothing(kind: type[Calibrator]) -> None:
    made = skewed(300)
    moved = predictions(made.logits + torch.linspace(-50, 50, 300, dtype=torch.float64)[:, None], made.label)
    torch.testing.assert_close(kind().fit(moved)(moved.logits), kind().fit(made)(made.logits))


@every
def test_classes_in_another_order_give_the_same(kind: type[Calibrator]) -> None:
    made, order = skewed(300), torch.tensor([2, 0, 3, 1])
    other = predictions(made.logits[:, order], order.argsort()[made.label])
    torch.testing.assert_close(kind().fit(other)(other.logits), kind().fit(made)(made.logits)[:, order])
