import inspect
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import minimize_scalar
from torch import Tensor

from poise.batch import Predictions
from poise.errors import UserError
from poise_recipes.calibration.temperature_scaling import TemperatureScaling, solve_temperature


def predictions(logits: Tensor, label: Tensor) -> Predictions:
    return Predictions(logits=logits, features=None, label=label, group=None, index=torch.arange(len(label)))


def synthetic(temperature: float, seed: int = 0, dtype: torch.dtype = torch.float64) -> Predictions:
    """Labels drawn from softmax(z), and logits `temperature * z`."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(2000, 5, generator=generator, dtype=torch.float64)
    label = torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0]
    return predictions((temperature * z).to(dtype), label)


def nll(held_out: Predictions, temperature: float) -> float:
    return float(F.cross_entropy(held_out.logits.double() / temperature, held_out.label))


@pytest.mark.parametrize("true", [0.2, 0.5, 1.0, 2.0, 5.0, 20.0])
def test_it_finds_the_minimum_that_scipy_finds(true: float) -> None:
    held_out = synthetic(true)
    found = TemperatureScaling().fit(held_out)
    best = minimize_scalar(
        lambda b: nll(held_out, 1 / b),
        bounds=(0.3 / true, 3 / true),
        method="bounded",
        options={"xatol": 1e-12},
    )
    temperature = found.temperature.item()
    assert temperature == pytest.approx(1 / best.x, rel=1e-6)
    assert nll(held_out, temperature) <= best.fun + 1e-14
    assert temperature == pytest.approx(true, rel=0.1)
    assert not found.hit_bound


def test_the_derivative_is_zero_at_the_solution() -> None:
    held_out = synthetic(3.0)
    found = TemperatureScaling().fit(held_out)
    inverse = (1 / found.temperature).requires_grad_()
    F.cross_entropy(held_out.logits * inverse, held_out.label).backward()
    assert abs(inverse.grad.item()) < 1e-10


def test_float32_logits_are_solved_in_float64() -> None:
    single, double = synthetic(2.0, dtype=torch.float32), synthetic(2.0)
    found = TemperatureScaling().fit(single)
    assert found.temperature.dtype == torch.float64
    assert found.temperature.item() == pytest.approx(TemperatureScaling().fit(double).temperature.item(), rel=1e-6)


@given(st.integers(0, 2**31 - 1), st.floats(0.05, 20.0))
def test_the_fit_split_is_never_worse_afterwards(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(20, 3, generator=generator)
    held_out = predictions(logits, torch.randint(3, (20,), generator=generator))
    temperature, _ = solve_temperature(logits, held_out.label, 0.01, 100.0)
    assert nll(held_out, temperature) <= nll(held_out, 1.0) + 1e-12
    assert nll(held_out, temperature) <= min(nll(held_out, temperature * f) for f in (0.9, 1.1)) + 1e-12 or (
        temperature in (0.01, 100.0)
    )


@given(
    arrays.arrays(np.float32, (4, 3), elements=st.floats(-50, 50, width=32)),
    st.floats(0.01, 100.0),
    st.booleans(),
)
def test_the_prediction_never_changes(values: Any, temperature: float, double: bool) -> None:
    logits = torch.from_numpy(values).to(torch.float64 if double else torch.float32)
    calibrator = TemperatureScaling()
    calibrator.temperature.fill_(temperature)
    assert torch.equal(calibrator(logits).argmax(-1), logits.argmax(-1))


@given(arrays.arrays(np.int64, (4, 3), elements=st.integers(-3, 3)), st.floats(0.01, 100.0))
def test_the_order_never_changes(values: Any, temperature: float) -> None:
    logits = torch.from_numpy(values).float()
    calibrator = TemperatureScaling()
    calibrator.temperature.fill_(temperature)
    before = logits[:, :, None] - logits[:, None, :]
    calibrated = calibrator(logits)
    after = calibrated[:, :, None] - calibrated[:, None, :]
    assert torch.equal(before.sign(), after.sign())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_result_is_normalised_log_probabilities(dtype: torch.dtype) -> None:
    logits = synthetic(2.0).logits.to(dtype)
    calibrator = TemperatureScaling()
    calibrator.temperature.fill_(2.5)
    calibrated = calibrator(logits)
    assert calibrated.dtype == dtype
    tolerance = 4 * torch.finfo(dtype).eps
    expected = (logits.double() / 2.5).softmax(-1)
    torch.testing.assert_close(calibrated.double().exp(), expected, rtol=10 * tolerance, atol=tolerance)


def test_unfitted_it_is_the_softmax() -> None:
    logits = synthetic(1.0).logits
    torch.testing.assert_close(TemperatureScaling()(logits), logits.log_softmax(-1))


def test_examples_that_are_all_right_tell_no_temperature(caplog: pytest.LogCaptureFixture) -> None:
    logits = synthetic(3.0).logits
    with caplog.at_level(logging.WARNING, "poise"):
        found = TemperatureScaling().fit(predictions(logits, logits.argmax(1)))
    assert found.temperature == 1
    assert found.hit_bound
    assert torch.equal(found(logits), TemperatureScaling()(logits))
    assert found.doubt == "every example is predicted right, which tells no temperature: T stays 1"
    assert f"temperature_scaling: {found.doubt}" in caplog.text
    assert "T = 2 is a bound of 2…4" in TemperatureScaling(2.0, 4.0).fit(predictions(logits, logits.argmax(1))).doubt


def test_one_mistake_is_enough_for_a_temperature() -> None:
    logits = synthetic(3.0).logits
    label = logits.argmax(1)
    label[7] = logits[7].argmin()
    found = TemperatureScaling().fit(predictions(logits, label))
    assert 0.01 < found.temperature < 100
    assert found.temperature != 1
    assert not found.hit_bound
    assert found.doubt == ""


def test_small_logits_hit_the_lower_bound(caplog: pytest.LogCaptureFixture) -> None:
    logits = 0.01 * torch.eye(4)
    logits[0, 1] = 0.0101
    with caplog.at_level(logging.WARNING, "poise"):
        found = TemperatureScaling().fit(predictions(logits, torch.arange(4)))
    assert found.temperature == 0.01
    assert found.hit_bound
    assert "temperature_scaling: T = 0.01 is a bound of 0.01…100" in caplog.text


def test_logits_that_say_nothing_hit_the_upper_bound() -> None:
    found = TemperatureScaling(highest=50.0).fit(predictions(-5 * torch.eye(4), torch.arange(4)))
    assert found.temperature == 50
    assert found.hit_bound


def test_a_later_fit_forgets_the_earlier_one() -> None:
    calibrator = TemperatureScaling().fit(predictions(5 * torch.eye(4), torch.arange(4)))
    again = calibrator.fit(synthetic(2.0))
    assert again is calibrator
    assert not again.hit_bound
    assert again.temperature == TemperatureScaling().fit(synthetic(2.0)).temperature


def test_masked_classes_give_no_nan() -> None:
    held_out = synthetic(3.0)
    masked = torch.cat([held_out.logits, torch.full((2000, 1), -math.inf, dtype=torch.float64)], 1)
    found = TemperatureScaling().fit(predictions(masked, held_out.label))
    assert found.temperature.item() == pytest.approx(TemperatureScaling().fit(held_out).temperature.item())
    calibrated = found(masked)
    assert not calibrated.isnan().any()
    assert (calibrated[:, -1] == -math.inf).all()


def test_large_logits_give_no_nan() -> None:
    held_out = synthetic(1.0)
    large = predictions(held_out.logits * 50 + 1e4, held_out.label)
    assert TemperatureScaling().fit(large).temperature.item() == pytest.approx(50, rel=0.1)


def test_state_dict_is_all_of_it() -> None:
    fitted = TemperatureScaling().fit(synthetic(3.0))
    other = TemperatureScaling()
    other.load_state_dict(fitted.state_dict())
    assert set(fitted.state_dict()) == {"temperature", "hit_bound"}
    logits = synthetic(3.0, seed=1).logits
    assert torch.equal(other(logits), fitted(logits))


def test_it_says_its_temperature() -> None:
    fitted = TemperatureScaling().fit(synthetic(3.0))
    assert fitted.settled == f"T = {float(fitted.temperature):.4g}"


def test_fitting_leaves_the_predictions_alone() -> None:
    held_out = synthetic(3.0)
    kept = held_out.logits.clone()
    TemperatureScaling().fit(held_out)
    assert torch.equal(held_out.logits, kept)


def test_what_it_declares() -> None:
    assert TemperatureScaling.default is True
    assert TemperatureScaling.needs == frozenset()
    assert "1706.04599" in TemperatureScaling.paper
    calibrator = TemperatureScaling(0.5, 2.0)
    for name in inspect.signature(TemperatureScaling).parameters:
        assert hasattr(calibrator, name)


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.1, math.inf), (-1.0, 1.0)])
def test_bounds_that_are_none_are_refused(lowest: float, highest: float) -> None:
    with pytest.raises(UserError, match="0 < lowest < highest|has to be a number, above 0"):
        TemperatureScaling(lowest, highest)


@given(st.integers(0, 2**31 - 1), st.floats(1e-3, 1e3), st.booleans())
def test_halving_finds_the_same(seed: int, scale: float, sure: bool) -> None:
    keyed = torch.Generator().manual_seed(seed)
    logits = torch.randn(30, 3, generator=keyed, dtype=torch.float64)
    label = torch.randint(3, (30,), generator=keyed)
    label[5:] = logits.argmax(1)[5:] if sure else label[5:]
    assume((label != logits.argmax(1)).any())
    temperature, hit_bound = solve_temperature(scale * logits, label, 0.01, 100.0)

    def slope(inverse: float) -> float:
        leaf = torch.tensor(inverse, dtype=torch.float64, requires_grad=True)
        F.cross_entropy(scale * logits * leaf, label).backward()
        assert leaf.grad is not None
        return float(leaf.grad)

    low, high = 0.01, 100.0
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    assert 1 / temperature == pytest.approx(low, rel=1e-9)
    assert hit_bound == (temperature in (0.01, 100.0))
