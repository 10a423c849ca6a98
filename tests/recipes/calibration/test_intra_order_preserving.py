import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.integrate import quad
from torch import Tensor

from distorted import honest, predictions, skewed, with_masked_class
from poise.batch import Predictions
from poise_recipes.calibration.intra_order_preserving import (
    IntraOrderPreserving,
    along,
    heights_of,
    placed,
    slopes,
)
from poise_recipes.calibration.small_network import start
from poise_recipes.calibration.temperature_scaling import TemperatureScaling


def straight(size: int, seed: int = 0) -> Predictions:
    """Honest logits, of three classes and of their opposites, so that rows have the mean 0."""
    generator = torch.Generator().manual_seed(seed)
    half = 2 * torch.randn(size, 3, generator=generator, dtype=torch.float64)
    logits = torch.cat([half, -half], 1)
    return predictions(logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0])


def bent(size: int, seed: int = 0) -> Predictions:
    """The same, growing faster the farther they are from 0."""
    made = straight(size, seed)
    return predictions(6 * (made.logits / 3).sinh(), made.label)


def nll(calibrator: IntraOrderPreserving | TemperatureScaling, made: Predictions) -> float:
    return float(F.nll_loss(calibrator(made.logits), made.label))


@st.composite
def functions(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Knots, and heights that rise with them."""
    rises = draw(st.lists(st.tuples(st.floats(0.1, 5), st.floats(1e-3, 50)), min_size=2, max_size=6))
    widths, steps = zip(*rises, strict=True)
    return np.cumsum([-5, *widths]).tolist(), np.cumsum([0, *steps]).tolist()


def with_state(state: tuple[list[float], list[float]]) -> IntraOrderPreserving:
    calibrator = IntraOrderPreserving()
    calibrator.knots, calibrator.heights = (torch.tensor(each, dtype=torch.float64) for each in state)
    return calibrator


# -- what is fitted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [2, 10])
def test_it_calibrates_what_one_temperature_cannot(hidden: int) -> None:
    held_out, test = bent(3000), bent(20000, seed=1)
    ours, one = IntraOrderPreserving(hidden).fit(held_out), TemperatureScaling().fit(held_out)
    truth = float(F.cross_entropy(straight(20000, 1).logits, test.label))
    assert ours.converged
    assert nll(ours, test) - truth < 0.3 * (nll(one, test) - truth)


@pytest.mark.parametrize("held_out", [bent(300), skewed(300), honest(300)], ids=["bent", "skewed", "honest"])
def test_labels_are_at_least_as_likely_as_after_temperature_scaling(held_out: Predictions) -> None:
    assert nll(IntraOrderPreserving().fit(held_out), held_out) <= nll(TemperatureScaling().fit(held_out), held_out)


def test_what_is_calibrated_stays_so() -> None:
    held_out, test = honest(5000), honest(20000, seed=1)
    before = float(F.cross_entropy(test.logits, test.label))
    assert nll(IntraOrderPreserving().fit(held_out), test) == pytest.approx(before, abs=2e-3)


def test_without_strength_few_examples_are_fitted_to_their_noise() -> None:
    held_out, test = straight(100), straight(20000, seed=9)
    free, held, fixed = (IntraOrderPreserving(4, strength).fit(held_out) for strength in (0.0, 1.0, 1e9))
    one = TemperatureScaling().fit(held_out)
    assert nll(free, held_out) < nll(held, held_out) < nll(one, held_out)
    assert nll(held, test) - nll(one, test) < 0.1 * (nll(free, test) - nll(one, test))
    torch.testing.assert_close(fixed(held_out.logits), one(held_out.logits), rtol=0, atol=1e-4)


def test_a_masked_class_changes_nothing() -> None:
    held_out = bent(200)
    masked = with_masked_class(held_out)
    plain, found = IntraOrderPreserving().fit(held_out), IntraOrderPreserving().fit(masked)
    calibrated = found(masked.logits)
    torch.testing.assert_close(calibrated[:, :-1], plain(held_out.logits), rtol=1e-5, atol=1e-5)
    assert (calibrated[:, -1] == -math.inf).all()


def test_rows_taken_in_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = bent(300)
    fitted = IntraOrderPreserving().fit(held_out)
    whole = fitted(held_out.logits)
    monkeypatch.setattr("poise_recipes.calibration.h.rows.BLOCK", 100)
    torch.testing.assert_close(fitted(held_out.logits), whole)
    torch.testing.assert_close(IntraOrderPreserving().fit(held_out)(held_out.logits), whole, rtol=0, atol=1e-3)


def test_a_class_that_is_far_below_all_others_changes_little() -> None:
    held_out = bent(200)
    far = held_out.logits.amin(1, keepdim=True) - 1e5
    low = predictions(torch.cat([held_out.logits, far], 1), held_out.label)
    plain, found = IntraOrderPreserving().fit(held_out), IntraOrderPreserving().fit(low)
    assert nll(found, low) == pytest.approx(nll(plain, held_out), abs=0.01)


def test_gradients_pass_a_masked_class() -> None:
    logits = torch.tensor([[1.0, -math.inf, 0.0]], requires_grad=True)
    IntraOrderPreserving().fit(bent(100))(logits)[0, 0].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] > 0


def test_it_fits_where_gradients_are_off() -> None:
    wanted = IntraOrderPreserving().fit(bent(100)).heights
    with torch.no_grad():
        assert torch.equal(IntraOrderPreserving().fit(bent(100)).heights, wanted)
    assert not wanted.requires_grad


@pytest.mark.parametrize(
    ("logits", "label"),
    [
        (5 * torch.eye(4), torch.arange(4)),
        (-5 * torch.eye(4), torch.arange(4)),
        (torch.zeros(3, 2), torch.arange(3) % 2),
    ],
    ids=["separable", "nothing", "one value"],
)
def test_what_has_no_optimum_gives_probabilities(logits: Tensor, label: Tensor) -> None:
    calibrated = IntraOrderPreserving().fit(predictions(logits, label))(logits)
    torch.testing.assert_close(calibrated.exp().sum(1), torch.ones(len(label)))
    assert torch.equal(calibrated.argmax(1), logits.argmax(1))


def test_a_search_that_is_cut_short_is_told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise_recipes.calibration.small_network.ROUNDS", 1)
    monkeypatch.setattr("poise_recipes.calibration.small_network.ROUND", 2)
    with caplog.at_level(logging.WARNING, "poise"):
        found = IntraOrderPreserving(hidden=10).fit(bent(500))
    assert not found.converged
    assert "intra_order_preserving: the search was ended before its optimum" in caplog.text


# -- the map -------------------------------------------------------------------------------------------------------


def test_the_heights_are_the_integral_of_the_network() -> None:
    network, knots = start(torch.device("cpu"), 5), torch.linspace(-4, 6, 1001, dtype=torch.float64)
    network[4] += torch.linspace(-1, 1, 5, dtype=torch.float64)
    heights = heights_of(slopes(network, (knots[1:, None] + knots[:-1, None]) / 2), knots)

    def slope(at: float) -> float:
        return float(slopes(network, torch.tensor([[at]], dtype=torch.float64)))

    for place in (100, 550, 1000):
        wanted, _ = quad(slope, -4.0, float(knots[place]), limit=200, epsabs=1e-9)
        assert float(heights[place]) == pytest.approx(wanted, abs=1e-4)


@given(functions(), st.lists(st.floats(-20, 40), min_size=1, max_size=5))
def test_between_knots_the_function_is_straight_and_beyond_them_too(state: Any, values: list[float]) -> None:
    knots, heights = (torch.tensor(each, dtype=torch.float64) for each in state)
    given_values = torch.tensor([values], dtype=torch.float64)
    found = along(heights, heights.diff() / knots.diff(), *placed(given_values, knots))
    inside = (given_values >= knots[0]) & (given_values <= knots[-1])
    wanted = torch.from_numpy(np.interp(given_values.numpy(), knots.numpy(), heights.numpy()))
    torch.testing.assert_close(found[inside], wanted[inside])
    last = (heights[-1] - heights[-2]) / (knots[-1] - knots[-2])
    above = given_values > knots[-1]
    torch.testing.assert_close(found[above], heights[-1] + last * (given_values[above] - knots[-1]))


@given(arrays.arrays(np.float32, (4, 3), elements=st.floats(-50, 50, width=32)), functions(), st.booleans())
def test_the_prediction_never_changes(values: Any, state: Any, double: bool) -> None:
    logits = torch.from_numpy(values).to(torch.float64 if double else torch.float32)
    assert torch.equal(with_state(state)(logits).argmax(-1), logits.argmax(-1))


@given(arrays.arrays(np.int64, (4, 3), elements=st.integers(-9, 9)), functions())
@settings(max_examples=50)
def test_the_order_never_changes(values: Any, state: Any) -> None:
    logits = torch.from_numpy(values).double()
    calibrated = with_state(state)(logits)
    before, after = (z[:, :, None] - z[:, None, :] for z in (logits, calibrated))
    assert torch.equal(before.sign(), after.sign())


@given(arrays.arrays(np.int64, (4, 3), elements=st.integers(-9, 9)), functions(), st.permutations(range(3)))
@settings(max_examples=50)
def test_classes_are_alike_and_what_is_added_to_a_row_changes_nothing(values: Any, state: Any, order: Any) -> None:
    logits, calibrator = torch.from_numpy(values).double(), with_state(state)
    torch.testing.assert_close(calibrator(logits[:, order] + 7), calibrator(logits)[:, order])


def test_unfitted_it_is_the_softmax() -> None:
    logits = bent(20).logits
    torch.testing.assert_close(IntraOrderPreserving()(logits), logits.log_softmax(-1))


def test_what_it_keeps() -> None:
    calibrator = IntraOrderPreserving(7, 0.5)
    assert (calibrator.hidden, calibrator.strength) == (7, 0.5)
    assert set(IntraOrderPreserving().state_dict()) == {"knots", "heights", "converged"}
