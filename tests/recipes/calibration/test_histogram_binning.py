import logging
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import inf

from distorted import honest, predictions, with_masked_class
from held_out import nll
from poise.batch import Predictions
from poise.errors import UserError
from poise_recipes.calibration.histogram_binning import HistogramBinning, counts


def too_large(size: int, classes: int = 4, seed: int = 0) -> Predictions:
    """Twice the honest logits."""
    made = honest(size, classes, seed)
    return predictions(2 * made.logits, made.label)


def by_hand() -> Predictions:
    """Class 0 at 0.7, 0.7, 0.7 and 0.1 of two bins, class 1 at what is left."""
    rows = torch.tensor([[0.7, 0.3], [0.7, 0.3], [0.7, 0.3], [0.1, 0.9]], dtype=torch.float64)
    return predictions(rows.log(), torch.tensor([0, 0, 1, 1]))


def test_frequencies_by_hand() -> None:
    found = HistogramBinning(bins=2).fit(by_hand())
    wanted = [[(0 + 0.25) / 2, (2 + 0.75) / 4], [(1 + 0.25) / 4, (1 + 0.75) / 2]]
    assert found.share.tolist() == [pytest.approx(row, rel=1e-15) for row in wanted]
    share = torch.tensor([wanted[0][1], wanted[1][0]], dtype=torch.float64)
    torch.testing.assert_close(found(by_hand().logits[:1]).exp()[0], share / share.sum())


def test_an_edge_belongs_to_the_bin_below_and_an_empty_bin_gives_its_middle() -> None:
    rows = torch.tensor([[0.5, 0.25, 0.25, 0.0]] * 3, dtype=torch.float64)
    found = HistogramBinning(bins=4).fit(predictions(rows.log(), torch.tensor([0, 1, 2])))
    middle = torch.tensor([0.125, 0.375, 0.625, 0.875], dtype=torch.float64)
    wanted = middle.repeat(4, 1)
    wanted[0, 1] = (1 + 0.375) / 4
    wanted[1, 0] = wanted[2, 0] = (1 + 0.125) / 4
    torch.testing.assert_close(found.share, wanted)  # the last class is masked: all of its bins are empty


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=15))
def test_counts_are_what_is_counted_one_by_one(entries: list[tuple[int, int, bool]]) -> None:
    index = torch.tensor([[first, second] for first, second, _ in entries])
    counted = torch.tensor([[True, also] for *_, also in entries])
    wanted = [[0, 0, 0], [0, 0, 0]]
    for first, second, also in entries:
        wanted[0][first] += 1
        wanted[1][second] += also
    assert counts(index, counted, bins=3).tolist() == wanted


@given(st.integers(1, 20), st.integers(0, 2**31 - 1))
def test_equal_probabilities_get_equal_shares_and_all_bins_hold_all_examples(bins: int, seed: int) -> None:
    made = too_large(30, seed=seed)
    found = HistogramBinning(bins).fit(made)
    twice = found(torch.cat([made.logits, made.logits + 3.0]).round(decimals=6))
    torch.testing.assert_close(twice[:30], twice[30:], rtol=0, atol=1e-9)
    assert twice.exp().sum(-1).tolist() == pytest.approx([1.0] * 60)
    assert (found.share > 0).all()
    assert (found.share < 1).all()


def test_it_calibrates_logits_that_are_too_large() -> None:
    made, test = too_large(5000), too_large(5000, seed=1)
    found = HistogramBinning().fit(made)
    best = float(F.cross_entropy(test.logits / 2, test.label))
    assert nll(found, test) - best < 0.5 * (nll(HistogramBinning(), test) - best)


@pytest.mark.parametrize("right", [True, False])
def test_no_label_is_impossible_when_all_are_right_or_all_are_wrong(right: bool) -> None:
    label = torch.arange(3).repeat(4)
    rows = 50 * F.one_hot(label, 3).double()
    found = HistogramBinning().fit(predictions(rows, label if right else (label + 1) % 3))
    least = (0.5 / 15) / (12 + 1)
    assert found(rows).min() > math.log(least / 3)  # three shares below 1


def test_masked_classes_stay_masked_and_change_nothing() -> None:
    made = too_large(200)
    never = with_masked_class(made)
    calibrated = HistogramBinning().fit(never)(never.logits)
    assert (calibrated[:, -1] == -inf).all()
    torch.testing.assert_close(calibrated[:, :-1], HistogramBinning().fit(made)(made.logits))


def test_what_was_not_fitted_is_the_softmax() -> None:
    logits = too_large(10).logits
    assert torch.equal(HistogramBinning()(logits), logits.log_softmax(-1))


def test_a_later_fit_forgets_the_earlier_one_and_its_state_is_all() -> None:
    made, other = too_large(100), HistogramBinning()
    once, again = HistogramBinning().fit(made), HistogramBinning().fit(too_large(300, classes=7)).fit(made)
    other.load_state_dict(again.state_dict())
    assert torch.equal(other(made.logits), once(made.logits))


def test_it_needs_the_classes_it_was_fitted_to() -> None:
    with pytest.raises(UserError, match="histogram_binning was fitted to 4 classes, and these logits have 3"):
        HistogramBinning().fit(too_large(30))(torch.zeros(1, 3))


def test_few_examples_of_a_class_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "poise"):
        HistogramBinning().fit(too_large(30))
    assert caplog.messages == ["histogram_binning: 4 of 4 classes have fewer than 20 examples"]
