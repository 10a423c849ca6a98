import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from distorted import honest, predictions, skewed
from poise.batch import Predictions
from poise_recipes.calibration.affine import centred
from poise_recipes.calibration.matrix_scaling import MatrixScaling
from poise_recipes.calibration.temperature_scaling import TemperatureScaling


def mixed_up(size: int, seed: int = 0) -> Predictions:
    """Honest logits, of which a share is added to the logits of the next class."""
    made = honest(size, seed=seed)
    return predictions(made.logits + 0.6 * made.logits.roll(1, 1), made.label)


def test_without_a_penalty_it_is_logistic_regression() -> None:
    held_out = skewed(400)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000).fit(centred(held_out.logits), held_out.label)
    found = MatrixScaling(strength=0.0).fit(held_out)
    wanted = torch.from_numpy(theirs.predict_proba(centred(held_out.logits).numpy()))
    calibrated = found(held_out.logits)
    assert found.converged
    assert F.nll_loss(calibrated, held_out.label) <= F.nll_loss(wanted.log(), held_out.label) + 1e-12
    torch.testing.assert_close(calibrated.exp(), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_the_penalised_loss_is_flat_at_the_solution(strength: float) -> None:
    held_out = skewed(400)
    found = MatrixScaling(strength).fit(held_out)
    temperature = TemperatureScaling().fit(held_out).temperature
    leaf = found.coefficients.clone().requires_grad_()
    scaled, other = temperature * leaf[:-1], ~torch.eye(4).bool()
    penalty = (scaled.diagonal() - 1).square().sum() + 3 * scaled[other].square().sum() + leaf[-1].square().sum()
    loss = F.cross_entropy(centred(held_out.logits) @ leaf[:-1] + leaf[-1], held_out.label)
    (loss + strength * 4 / 400 * penalty).backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().max() < 1e-7


def test_it_undoes_what_classes_have_of_each_other() -> None:
    held_out, test = mixed_up(5000), mixed_up(20000, seed=1)
    calibrated = MatrixScaling().fit(held_out)(test.logits)
    truth = honest(20000, seed=1).logits.log_softmax(1)
    assert F.nll_loss(calibrated, test.label) < F.nll_loss(truth, test.label) + 0.005
    one = TemperatureScaling().fit(held_out)(test.logits)
    assert F.nll_loss(one, test.label) > F.nll_loss(truth, test.label) + 0.03


@pytest.mark.parametrize("scale", [0.05, 20.0])
def test_large_logits_are_fitted_as_small_ones(scale: float) -> None:
    held_out = skewed(300)
    scaled = predictions(scale * held_out.logits, held_out.label)
    found, wanted = MatrixScaling().fit(scaled), MatrixScaling().fit(held_out)
    torch.testing.assert_close(found(scaled.logits), wanted(held_out.logits), rtol=1e-5, atol=1e-5)


def test_a_strong_penalty_leaves_temperature_scaling() -> None:
    held_out = skewed(300)
    calibrated = MatrixScaling(strength=1e9).fit(held_out)(held_out.logits)
    torch.testing.assert_close(calibrated, TemperatureScaling().fit(held_out)(held_out.logits), rtol=0, atol=1e-5)


def test_the_penalty_is_better_than_none_on_few_examples() -> None:
    held_out, test = honest(150, 6), honest(5000, 6, seed=1)
    penalised, free = (MatrixScaling(strength).fit(held_out)(test.logits) for strength in (1.0, 0.0))
    assert F.nll_loss(penalised, test.label) < F.nll_loss(free, test.label) - 0.02


def test_what_it_keeps() -> None:
    calibrator = MatrixScaling(0.5)
    assert calibrator.strength == 0.5
    assert [*inspect.signature(MatrixScaling).parameters] == ["strength"]
    assert set(calibrator.state_dict()) == {"coefficients", "converged"}
