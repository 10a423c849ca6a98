import inspect
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
from scipy.optimize import minimize
from torch import Tensor

from distorted import honest, predictions, skewed, with_masked_class
from poise.batch import Predictions
from poise.errors import UserError
from poise_recipes.calibration.ensemble_temperature import EnsembleTemperature, members, mixture_weights
from poise_recipes.calibration.temperature_scaling import TemperatureScaling


def noisy(size: int, seed: int = 0) -> Predictions:
    """Logits twice as large as honest ones, a tenth of the labels drawn anew."""
    made = honest(size, 5, seed)
    generator = torch.Generator().manual_seed(seed + 7)
    anew = torch.rand(size, generator=generator) < 0.1
    label = torch.where(anew, torch.randint(5, (size,), generator=generator), made.label)
    return predictions(2 * made.logits, label)


def own(held_out: Predictions, temperature: float) -> Tensor:
    """Log-likelihoods [N, 3] of the labels under what is mixed."""
    each = members(held_out.logits, torch.tensor(temperature, dtype=torch.float64))
    return torch.stack([part.gather(1, held_out.label[:, None])[:, 0] for part in each], 1)


def nll(log_likelihood: Tensor, weights: Tensor) -> float:
    return -float((log_likelihood.exp() @ weights).log().mean())


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[float, list[float]]:
    """T within the default bounds, and weights."""
    parts = draw(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda parts: sum(parts) > 1e-3))
    return draw(st.floats(0.01, 100)), [part / sum(parts) for part in parts]


def with_state(state: tuple[float, list[float]]) -> EnsembleTemperature:
    calibrator = EnsembleTemperature()
    calibrator.temperature.fill_(state[0])
    calibrator.weights.copy_(torch.tensor(state[1], dtype=torch.float64))
    return calibrator


@pytest.mark.parametrize("held_out", [noisy(500), skewed(500), honest(500)], ids=["noisy", "skewed", "honest"])
def test_the_weights_are_those_that_scipy_finds(held_out: Predictions) -> None:
    found = EnsembleTemperature().fit(held_out)
    likelihood = own(held_out, found.temperature.item())
    best = minimize(
        lambda w: nll(likelihood, torch.from_numpy(w)),
        np.array([0.8, 0.1, 0.1]),
        method="SLSQP",
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14},
    )
    assert nll(likelihood, found.weights) <= best.fun + 1e-9
    assert found.temperature == TemperatureScaling().fit(held_out).temperature


@given(arrays.arrays(np.float64, (20, 3), elements=st.floats(-30, 0)))
@settings(max_examples=40, deadline=None)
def test_no_weight_could_grow_to_advantage(values: Any) -> None:
    log_likelihood = torch.from_numpy(values)
    weights = mixture_weights(log_likelihood)
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1)
    scaled = (log_likelihood - log_likelihood.amax(1, keepdim=True)).exp()
    pull = (scaled / (scaled @ weights)[:, None]).mean(0)
    assert (pull <= 1 + 1e-5).all()
    assert (weights * (pull - 1)).abs().max() < 1e-5


@pytest.mark.parametrize("held_out", [noisy(300), skewed(300), honest(300)], ids=["noisy", "skewed", "honest"])
def test_labels_are_at_least_as_likely_as_after_temperature_scaling_and_without_any(held_out: Predictions) -> None:
    ours, one = (kind().fit(held_out)(held_out.logits) for kind in (EnsembleTemperature, TemperatureScaling))
    mixed, tempered = F.nll_loss(ours, held_out.label), F.nll_loss(one, held_out.label)
    assert mixed <= tempered + 1e-12
    assert tempered <= F.cross_entropy(held_out.logits, held_out.label) + 1e-12


def test_it_finds_the_share_of_labels_that_are_noise() -> None:
    held_out, test = noisy(20000), noisy(20000, seed=1)
    found = EnsembleTemperature().fit(held_out)
    assert float(found.weights[2]) > 0.03
    ours, one = found(test.logits), TemperatureScaling().fit(held_out)(test.logits)
    assert F.nll_loss(ours, test.label) < F.nll_loss(one, test.label) - 0.005


def test_what_is_calibrated_stays_so() -> None:
    held_out = honest(5000)
    calibrated = EnsembleTemperature().fit(held_out)(held_out.logits)
    torch.testing.assert_close(calibrated.exp(), held_out.logits.softmax(1), rtol=0, atol=0.03)


@given(arrays.arrays(np.float32, (4, 3), elements=st.floats(-50, 50, width=32)), mixtures(), st.booleans())
def test_the_prediction_never_changes(values: Any, state: Any, double: bool) -> None:
    logits = torch.from_numpy(values).to(torch.float64 if double else torch.float32)
    assert torch.equal(with_state(state)(logits).argmax(-1), logits.argmax(-1))


@given(arrays.arrays(np.int64, (4, 3), elements=st.integers(-9, 9)), mixtures(), st.permutations(range(3)))
def test_classes_are_alike_and_what_is_added_to_a_row_changes_nothing(values: Any, state: Any, order: Any) -> None:
    logits, calibrator = torch.from_numpy(values).double(), with_state(state)
    torch.testing.assert_close(calibrator(logits[:, order] + 7), calibrator(logits)[:, order])


def test_the_map_is_the_mixture() -> None:
    logits = skewed(20).logits
    mixed = 0.5 * (logits / 3).softmax(1) + 0.2 * logits.softmax(1) + 0.3 / 4
    torch.testing.assert_close(with_state((3.0, [0.5, 0.2, 0.3]))(logits).exp(), mixed)


def test_a_masked_class_changes_nothing() -> None:
    held_out = noisy(300)
    masked = with_masked_class(held_out)
    plain, found = EnsembleTemperature().fit(held_out), EnsembleTemperature().fit(masked)
    torch.testing.assert_close(found.weights, plain.weights)
    calibrated = found(masked.logits)
    torch.testing.assert_close(calibrated[:, :-1], plain(held_out.logits))
    assert (calibrated[:, -1] == -math.inf).all()


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [0.4, 0.3, 0.3]])
def test_gradients_pass_a_masked_class(weights: list[float]) -> None:
    logits = torch.tensor([[1.0, -math.inf, 0.0]], requires_grad=True)
    with_state((2.0, weights))(logits)[0, 0].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] > 0


def test_examples_that_are_all_right_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logits = skewed(40).logits
    with caplog.at_level(logging.WARNING, "poise"):
        found = EnsembleTemperature().fit(predictions(logits, logits.argmax(1)))
    assert found.settled == "T = 1, w = 1, 0, 0"
    torch.testing.assert_close(found(logits), EnsembleTemperature()(logits))
    assert "ensemble_temperature: every example is predicted right, which tells no temperature" in caplog.text


def test_small_logits_hit_the_lower_bound(caplog: pytest.LogCaptureFixture) -> None:
    logits = 0.01 * torch.eye(4)
    logits[0, 1] = 0.0101
    with caplog.at_level(logging.WARNING, "poise"):
        found = EnsembleTemperature().fit(predictions(logits, torch.arange(4)))
    assert found.temperature == 0.01
    assert found.hit_bound
    assert "T = 0.01 is a bound of 0.01…100" in caplog.text


def test_unfitted_it_is_the_softmax() -> None:
    logits = skewed(20).logits
    torch.testing.assert_close(EnsembleTemperature()(logits), logits.log_softmax(-1))


def test_what_it_keeps() -> None:
    calibrator = EnsembleTemperature(0.5, 2.0)
    assert set(calibrator.state_dict()) == {"temperature", "weights", "hit_bound"}
    for name in inspect.signature(EnsembleTemperature).parameters:
        assert hasattr(calibrator, name)


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (2.0, 1.0), (0.1, math.inf)])
def test_bounds_that_are_none_are_refused(lowest: float, highest: float) -> None:
    with pytest.raises(UserError, match="ensemble_temperature: 0 < lowest < highest|has to be a number, above 0"):
        EnsembleTemperature(lowest, highest)
