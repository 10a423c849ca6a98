import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import inf

from distorted import with_masked_class
from held_out import bent, ece, predictions
from poise_recipes.calibration.isotonic import interpolated
from poise_recipes.calibration.spline import Spline, accuracy_of, merged

# -- the confidence ------------------------------------------------------------------------------------------------


def directly(confidence: np.ndarray, right: np.ndarray, knots: int) -> np.ndarray:
    """s + H'(t) by truncated cubic powers, linear beyond the first and last knot: another basis of natural splines."""
    size, at = len(confidence), np.linspace(0, 1, knots)
    t = np.linspace(0, 1, size)[:, None]

    def power(k: int, degree: int) -> np.ndarray:
        return (np.maximum(t - at[k], 0) ** degree - np.maximum(t - at[-1], 0) ** degree) / (at[-1] - at[k])

    pairs = [[power(k, degree) - power(knots - 2, degree) for k in range(knots - 2)] for degree in (3, 2)]
    values = np.hstack([np.ones_like(t), t, *pairs[0]])
    slopes = np.hstack([np.zeros_like(t), np.ones_like(t), *(3 * each for each in pairs[1])])
    height = np.linalg.lstsq(values, np.cumsum(right - confidence) / size, rcond=None)[0]
    found: np.ndarray = confidence + slopes @ height
    return found


@pytest.mark.parametrize(("size", "knots"), [(500, 6), (60, 6), (40, 4), (30, 3), (5, 2)])
def test_it_is_the_slope_of_the_natural_spline_with_the_least_squares(size: int, knots: int) -> None:
    generator = torch.Generator().manual_seed(size)
    confidence = torch.rand(size, generator=generator, dtype=torch.float64).sort()[0]
    right = (torch.rand(size, generator=generator) < confidence**2).double()
    found = accuracy_of(confidence, right, knots)
    np.testing.assert_allclose(found.numpy(), directly(confidence.numpy(), right.numpy(), knots), rtol=0, atol=1e-9)


def test_two_examples_by_hand() -> None:
    """Sums of right less s, over N: (1 - 0.6)/2 at 0 and 0.2 + (0 - 0.8)/2 at 1, so the slope is -0.4."""
    found = accuracy_of(torch.tensor([0.6, 0.8]).double(), torch.tensor([1.0, 0.0]).double(), knots=2)
    assert found.tolist() == pytest.approx([0.2, 0.4])


@given(st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.75, 1.0]), st.floats(0, 1)), min_size=1, max_size=12))
def test_equal_confidences_become_one_with_their_mean(pairs: list[tuple[float, float]]) -> None:
    confidence, accuracy = map(torch.tensor, zip(*sorted(pairs), strict=True))
    distinct, mean = merged(confidence.double(), accuracy.double())
    wanted = {each: [float(a) for c, a in sorted(pairs) if c == each] for each, _ in sorted(pairs)}
    assert distinct.tolist() == pytest.approx([*wanted])
    assert mean.tolist() == pytest.approx([sum(each) / len(each) for each in wanted.values()], abs=1e-6)


def test_the_accuracy_at_each_confidence_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    confidence = 0.5 + torch.rand(50000, generator=generator, dtype=torch.float64) / 2
    rows = torch.stack([confidence, 1 - confidence], 1).log()
    true = confidence - 0.15 * (2 * math.pi * confidence).sin().abs()
    wrong = torch.rand(50000, generator=generator, dtype=torch.float64) > true
    found = Spline().fit(predictions(rows, wrong.long()))
    assert float((found(rows).exp()[:, 0] - true.clamp(min=0.5)).abs().mean()) < 0.015


def test_it_calibrates_what_no_temperature_can() -> None:
    made, test = bent(5000, 5), bent(20000, 5, seed=1)
    found = Spline().fit(made)
    assert ece(found, test) < 0.25 * ece(Spline(), test)


# -- rows of classes -----------------------------------------------------------------------------------------------


def test_the_other_classes_share_what_is_left_as_before() -> None:
    made = bent(1000, 5)
    found = Spline().fit(made)
    before, after = made.logits.softmax(-1), found(made.logits).exp()
    top = before.argmax(-1, keepdim=True)
    wanted = interpolated(before.amax(-1), found.confidence, found.accuracy).clamp(0, 1)
    others = before.scatter(-1, top, 0.0)
    others /= others.sum(-1, keepdim=True)
    highest = others.amax(-1) / (1 + others.amax(-1))
    row = (1 - wanted[:, None]) * others + others.new_zeros(others.shape).scatter(-1, top, wanted[:, None])
    kept = wanted > highest
    assert kept.double().mean() > 0.5
    torch.testing.assert_close(after[kept], (1000 / 1001 * row + 1 / 1001 / 5)[kept])


@given(st.integers(0, 2**31 - 1), st.integers(2, 100), st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None)
def test_the_prediction_never_changes_and_equal_rows_stay_equal(seed: int, size: int, dtype: torch.dtype) -> None:
    logits = (3 * torch.randn(30, 4, generator=torch.Generator().manual_seed(seed))).round().to(dtype)
    calibrated = Spline().fit(bent(size, classes=4, seed=seed))(torch.cat([logits, logits]))
    assert torch.equal(calibrated[:30].argmax(-1), logits.argmax(-1))
    assert torch.equal(calibrated[:30], calibrated[30:])


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("right", [True, False])
def test_no_label_is_impossible_when_all_are_right_or_all_are_wrong(right: bool, size: int) -> None:
    label = torch.arange(3).repeat(size)
    rows = 50 * F.one_hot(label, 3).double()
    found = Spline().fit(predictions(rows, label if right else (label + 1) % 3))
    calibrated = found(rows)
    assert calibrated.exp().sum(-1).tolist() == pytest.approx([1.0] * len(label))
    assert calibrated.min() >= -math.log(3 * (len(label) + 1)) - 1e-9
    assert found.accuracy.tolist() == pytest.approx([float(right)], abs=0.35)


def test_masked_classes_stay_masked_and_change_nothing() -> None:
    made = bent(200, 5)
    never = with_masked_class(made)
    calibrated = Spline().fit(never)(never.logits)
    assert (calibrated[:, -1] == -inf).all()
    torch.testing.assert_close(calibrated[:, :-1], Spline().fit(made)(made.logits))


def test_a_row_with_one_possible_class_is_certain() -> None:
    found = Spline().fit(bent(50, classes=2))
    assert found(torch.tensor([[-inf, 3.0]]))[0].exp().tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("size", [2, 3, 29])
def test_of_few_examples_all_confidences_move_alike(size: int) -> None:
    made = bent(size, 5, seed=4)
    found = Spline().fit(made)
    moved = found.accuracy - found.confidence
    assert moved.tolist() == pytest.approx([float(moved[0])] * size, abs=1e-12)


def test_what_was_not_fitted_is_the_softmax() -> None:
    logits = bent(10, 5).logits
    torch.testing.assert_close(Spline()(logits), logits.log_softmax(-1))


def test_a_later_fit_forgets_the_earlier_one_and_its_state_is_all() -> None:
    made, other = bent(100, 5), Spline()
    once, again = Spline().fit(made), Spline().fit(bent(300, classes=7)).fit(made)
    other.load_state_dict(again.state_dict())
    assert torch.equal(other(made.logits), once(made.logits))
