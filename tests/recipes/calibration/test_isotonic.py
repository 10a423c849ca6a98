import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, inf

from distorted import with_masked_class
from held_out import bent, nll, predictions
from poise.calibrator import Calibrator
from poise.errors import UserError
from poise_recipes.calibration.isotonic import Isotonic, interpolated, isotonic_map
from poise_recipes.calibration.isotonic_pooled import IsotonicPooled

PAIRS = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.35, 0.5, 0.9, 1.0]), st.booleans()), min_size=1, max_size=12)

patient = settings(deadline=None)  # whichever is first imports scikit-learn
both = pytest.mark.parametrize("kind", [Isotonic, IsotonicPooled])


# -- one map -------------------------------------------------------------------------------------------------------


def directly(pairs: list[tuple[float, bool]]) -> dict[float, float]:
    """The best non-decreasing values by score, by the formula: the highest of the lowest means around each."""
    scores = sorted({score for score, _ in pairs})
    truths = [[truth for score, truth in pairs if score == each] for each in scores]

    def mean(first: int, last: int) -> float:
        return float(np.mean([truth for group in truths[first : last + 1] for truth in group]))

    size = range(len(scores))
    return {
        scores[i]: max(min(mean(first, last) for last in size if last >= i) for first in size if first <= i)
        for i in size
    }


def fitted(pairs: list[tuple[float, bool]]) -> tuple[Tensor, Tensor]:
    score, truth = zip(*pairs, strict=True)
    return isotonic_map(torch.tensor(score, dtype=torch.float64), torch.tensor(truth))


@given(PAIRS)
@patient
def test_the_map_is_the_best_non_decreasing_one_and_equal_scores_are_one(pairs: list[tuple[float, bool]]) -> None:
    wanted = directly(pairs)
    found = interpolated(torch.tensor([*wanted], dtype=torch.float64), *fitted(pairs))
    assert found.tolist() == pytest.approx([*wanted.values()], abs=1e-12)


@given(PAIRS)
@patient
def test_the_map_never_falls_and_stays_between_0_and_1(pairs: list[tuple[float, bool]]) -> None:
    values = interpolated(torch.linspace(0, 1, 301, dtype=torch.float64), *fitted(pairs))
    assert (values.diff() >= -1e-15).all()
    assert values.min() >= 0
    assert values.max() <= 1


@given(st.integers(1, 7), st.integers(0, 2**31 - 1))
def test_between_knots_it_is_what_numpy_interpolates(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    knot, value = np.sort(generator.random(count)), generator.random(count)
    x = np.concatenate([generator.random((3, 20)).ravel() * 1.4 - 0.2, knot])
    found: Any = interpolated(*map(torch.from_numpy, (x, knot, value)))
    np.testing.assert_allclose(found, np.interp(x, knot, value), rtol=1e-9, atol=1e-12)


def test_a_map_without_pairs_is_the_identity() -> None:
    knot, share = isotonic_map(torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.bool))
    assert interpolated(torch.tensor([0.3]).double(), knot, share).item() == pytest.approx(0.3)


# -- rows of classes -----------------------------------------------------------------------------------------------


def test_a_row_by_hand() -> None:
    """Four examples, two scores: 2 of 3 are right at 0.8 and none at 0.4 = 1 - 0.6, so at 0.6 all are."""
    rows = torch.tensor([[0.8, 0.2]] * 3 + [[0.4, 0.6]], dtype=torch.float64)
    found = Isotonic().fit(predictions(rows.log(), torch.tensor([0, 0, 1, 1])))
    shares = torch.tensor([[2 / 3, 1 / 3], [0.0, 1.0]], dtype=torch.float64)
    wanted = 0.8 * shares + 0.2 / 2
    torch.testing.assert_close(found(rows[[0, 3]].log()).exp(), wanted)


def test_pooled_rows_by_hand() -> None:
    """Scores 0.2 (1 of 3 is right), 0.4 (0 of 1) and 0.6 (1 of 1) with 0.8 (2 of 3): 1/4, 1/4, 3/4, 3/4."""
    rows = torch.tensor([[0.8, 0.2]] * 3 + [[0.4, 0.6]], dtype=torch.float64)
    found = IsotonicPooled().fit(predictions(rows.log(), torch.tensor([0, 0, 1, 1])))
    wanted = 0.8 * torch.tensor([0.75, 0.25], dtype=torch.float64) + 0.2 / 2
    torch.testing.assert_close(found(rows[[0]].log())[0].exp(), wanted, rtol=1e-8, atol=0)
    torch.testing.assert_close(found(rows[[3]].log())[0].exp(), wanted.flip(0), rtol=1e-8, atol=0)


@both
def test_it_calibrates_what_no_temperature_can(kind: type[Calibrator]) -> None:
    found, test = kind().fit(bent(5000, 5)), bent(5000, 5, seed=1)
    honest = test.logits.sign() * (test.logits.abs() / 1.2) ** 0.8
    best = float(F.nll_loss(honest, test.label))
    assert nll(found, test) - best < 0.3 * (float(F.cross_entropy(test.logits, test.label)) - best)


@given(st.integers(0, 2**31 - 1), st.sampled_from([torch.float32, torch.float64]))
@patient
def test_the_pooled_map_keeps_the_order_of_a_row(seed: int, dtype: torch.dtype) -> None:
    logits = (4 * torch.randn(30, 4, generator=torch.Generator().manual_seed(seed))).round().to(dtype)
    calibrated = IsotonicPooled().fit(bent(40, classes=4))(logits)
    assert torch.equal(calibrated.argmax(-1), logits.argmax(-1))
    assert (calibrated.gather(-1, logits.argsort(-1)).diff(dim=-1) >= 0).all()


def test_plateaus_of_the_pooled_map_make_no_ties() -> None:
    found = IsotonicPooled().fit(predictions(torch.eye(2).repeat(4, 1).double(), torch.tensor([0, 1] * 4)))
    first, second = found(torch.tensor([[5.0, 4.0]], dtype=torch.float64))[0].tolist()
    assert len(found.knot) == 2
    assert first > second


@both
@pytest.mark.parametrize("right", [True, False])
def test_no_label_is_impossible_when_all_are_right_or_all_are_wrong(kind: type[Calibrator], right: bool) -> None:
    label = torch.arange(3).repeat(4)
    rows = 50 * F.one_hot(label, 3).double()
    found = kind().fit(predictions(rows, label if right else (label + 1) % 3))
    calibrated = found(rows)
    assert calibrated.exp().sum(-1).tolist() == pytest.approx([1.0] * 12)
    assert calibrated.min() >= -math.log(3 * 13) - 1e-9


@both
def test_masked_classes_stay_masked_and_change_nothing(kind: type[Calibrator]) -> None:
    made = bent(200, 5)
    never = with_masked_class(made)
    calibrated = kind().fit(never)(never.logits)
    assert (calibrated[:, -1] == -inf).all()
    torch.testing.assert_close(calibrated[:, :-1], kind().fit(made)(made.logits))


@both
def test_classes_without_examples_and_one_score_for_all_are_borne(kind: type[Calibrator]) -> None:
    alike = predictions(torch.zeros(4, 3), torch.tensor([0, 0, 0, 1]))
    calibrated = kind().fit(alike)(torch.tensor([[0.0, 0.0, 0.0], [3.0, -2.0, 0.0]]))
    assert calibrated.isfinite().all()
    assert calibrated.exp().sum(-1).tolist() == pytest.approx([1.0, 1.0])


def test_gradients_are_finite_where_a_class_is_masked() -> None:
    rows = torch.tensor([[1.0, 2.0, -inf, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    IsotonicPooled().fit(bent(100, 5))(rows)[0, 0].backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
    assert rows.grad.any()


def test_classes_that_were_masked_throughout_keep_their_probability() -> None:
    made = bent(500, classes=2)
    found = Isotonic().fit(with_masked_class(made))
    row = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    known = Isotonic().fit(made)
    shares = [interpolated(row[0, k : k + 1], *knots) for k, knots in enumerate(known._maps())]
    share = torch.cat([*shares, row[0, 2:]])
    torch.testing.assert_close(found(row.log()).exp()[0], 500 / 501 * share / share.sum() + 1 / 501 / 3)


@both
def test_what_was_not_fitted_is_the_softmax(kind: type[Calibrator]) -> None:
    logits = bent(10, 5).logits
    assert torch.equal(kind()(logits), logits.log_softmax(-1))


@both
def test_a_later_fit_forgets_the_earlier_one_and_its_state_is_all(kind: type[Calibrator]) -> None:
    made, other = bent(100, 5), kind()
    once, again = kind().fit(made), kind().fit(bent(300, classes=7)).fit(made)
    other.load_state_dict(again.state_dict())
    assert torch.equal(other(made.logits), once(made.logits))


def test_a_map_for_each_class_needs_the_classes_it_was_fitted_to() -> None:
    with pytest.raises(UserError, match="isotonic was fitted to 5 classes, and these logits have 4"):
        Isotonic().fit(bent(30, 5))(torch.zeros(1, 4))
    assert IsotonicPooled().fit(bent(30, 5))(torch.zeros(1, 4)).isfinite().all()


def test_few_examples_of_a_class_are_told_where_each_has_a_map(caplog: pytest.LogCaptureFixture) -> None:
    made = bent(30, 5)
    with caplog.at_level(logging.WARNING, "poise"):
        IsotonicPooled().fit(made)
        assert caplog.messages == []
        Isotonic().fit(made)
    assert caplog.messages == ["isotonic: 5 of 5 classes have fewer than 20 examples"]
