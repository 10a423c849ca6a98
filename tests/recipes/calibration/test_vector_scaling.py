import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor

from distorted import predictions, skewed
from poise.batch import Predictions
from poise_recipes.calibration.affine import centred
from poise_recipes.calibration.temperature_scaling import TemperatureScaling
from poise_recipes.calibration.vector_scaling import VectorScaling


def objective(held_out: Predictions, factors: Tensor, intercepts: Tensor, strength: float) -> Tensor:
    """As the docstring has it."""
    size, classes = held_out.logits.shape
    temperature = TemperatureScaling().fit(held_out).temperature
    scaled = centred(held_out.logits) * factors + intercepts
    penalty = (temperature * factors - 1).square().sum() + intercepts.square().sum()
    return F.cross_entropy(scaled, held_out.label) + strength * classes / size * penalty


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_it_finds_the_minimum_that_scipy_finds(strength: float) -> None:
    held_out = skewed(400)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(flat).clone().requires_grad_()
        loss = objective(held_out, leaf[:4], leaf[4:], strength)
        loss.backward()
        assert leaf.grad is not None
        return loss.item(), leaf.grad.numpy()

    best = minimize(value, np.repeat([1.0, 0.0], 4), jac=True, method="BFGS", options={"gtol": 1e-9})
    found = VectorScaling(strength).fit(held_out)
    factors, intercepts = found.coefficients
    assert found.converged
    assert float(objective(held_out, factors, intercepts, strength)) <= best.fun + 1e-12
    torch.testing.assert_close(factors, torch.from_numpy(best.x[:4]), rtol=0, atol=1e-5)
    theirs = torch.from_numpy(best.x[4:])
    torch.testing.assert_close(intercepts - intercepts.mean(), theirs - theirs.mean(), rtol=0, atol=1e-5)


def test_it_undoes_a_stretch_and_a_shift_of_each_class() -> None:
    held_out = skewed(50000)
    factors, _ = VectorScaling().fit(held_out).coefficients
    truth = 1 / (2 * (1 + 0.5 * torch.arange(4, dtype=torch.float64).sin()))
    assert (factors / truth - 1).std() < 0.5 * (1 / truth).std() * truth.mean()


@pytest.mark.parametrize("scale", [0.05, 20.0])
def test_large_logits_are_fitted_as_small_ones(scale: float) -> None:
    held_out = skewed(300)
    scaled = predictions(scale * held_out.logits, held_out.label)
    found, wanted = VectorScaling().fit(scaled), VectorScaling().fit(held_out)
    torch.testing.assert_close(found(scaled.logits), wanted(held_out.logits), rtol=1e-6, atol=1e-6)


def test_a_strong_penalty_leaves_temperature_scaling() -> None:
    held_out = skewed(300)
    calibrated = VectorScaling(strength=1e9).fit(held_out)(held_out.logits)
    torch.testing.assert_close(calibrated, TemperatureScaling().fit(held_out)(held_out.logits), rtol=0, atol=1e-5)


def test_what_it_keeps() -> None:
    calibrator = VectorScaling(0.5)
    assert calibrator.strength == 0.5
    assert [*inspect.signature(VectorScaling).parameters] == ["strength"]
    assert set(calibrator.state_dict()) == {"coefficients", "converged"}
