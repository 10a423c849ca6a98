import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from distorted import predictions, skewed
from poise.batch import Predictions
from poise_recipes.calibration.dirichlet import Dirichlet
from poise_recipes.calibration.temperature_scaling import TemperatureScaling


def from_dirichlet(size: int, seed: int = 0) -> Predictions:
    """Probabilities that have a Dirichlet distribution of its own for each of three classes."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (size,), generator=generator)
    probability = torch._sample_dirichlet(concentration()[label], generator=generator)
    return predictions(probability.log(), label)


def concentration() -> torch.Tensor:
    return torch.tensor([[6.0, 2.0, 1.0], [1.5, 4.0, 3.0], [1.0, 1.0, 5.0]], dtype=torch.float64)


def test_without_a_penalty_it_is_logistic_regression() -> None:
    held_out = skewed(400)
    inputs = held_out.logits.log_softmax(1)
    theirs = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10000).fit(inputs, held_out.label)
    found = Dirichlet(off_diagonal=0.0, intercept=0.0, diagonal=0.0).fit(held_out)
    wanted = torch.from_numpy(theirs.predict_proba(inputs.numpy()))
    calibrated = found(held_out.logits)
    assert found.converged
    assert F.nll_loss(calibrated, held_out.label) <= F.nll_loss(wanted.log(), held_out.label) + 1e-12
    torch.testing.assert_close(calibrated.exp(), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("off_diagonal", "intercept", "diagonal"), [(1.0, 1.0, 0.1), (0.1, 0.0, 0.0)])
def test_the_penalised_loss_is_flat_at_the_solution(off_diagonal: float, intercept: float, diagonal: float) -> None:
    held_out = skewed(400)
    leaf = Dirichlet(off_diagonal, intercept, diagonal).fit(held_out).coefficients.clone().requires_grad_()
    relative = TemperatureScaling().fit(held_out).temperature * leaf.diagonal()
    loss = F.cross_entropy(held_out.logits.log_softmax(1) @ leaf[:-1] + leaf[-1], held_out.label)
    other = leaf[:-1][~torch.eye(4).bool()]
    penalty = off_diagonal * 12 / 400 * other.square().sum() + intercept * 4 / 400 * leaf[-1].square().sum()
    (loss + penalty + diagonal * 4 / 400 * (relative - 1).square().sum()).backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().max() < 1e-7


def test_it_calibrates_what_dirichlet_distributions_give() -> None:
    held_out, test = from_dirichlet(20000), from_dirichlet(20000, seed=1)
    truth = torch.distributions.Dirichlet(concentration()).log_prob(test.logits.exp()[:, None]).log_softmax(1)
    calibrated = Dirichlet().fit(held_out)(test.logits)
    assert F.nll_loss(calibrated, test.label) < F.nll_loss(truth, test.label) + 0.002
    assert (calibrated.exp() - truth.exp()).abs().mean() < 0.01


def test_a_strong_penalty_leaves_the_diagonal() -> None:
    matrix = Dirichlet(1e9, 1e9, diagonal=0.0).fit(skewed(300)).coefficients
    torch.testing.assert_close(matrix[:-1], matrix[:-1].diagonal().diag(), rtol=0, atol=1e-5)
    torch.testing.assert_close(matrix[-1], torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-5)
    assert matrix.diagonal().std() > 0.05


def test_small_probabilities_give_no_nan() -> None:
    held_out = skewed(300)
    large = predictions(500 * held_out.logits, held_out.label)
    assert not Dirichlet().fit(large)(large.logits).isnan().any()


def test_what_it_keeps() -> None:
    calibrator = Dirichlet(0.5, 2.0)
    for name in inspect.signature(Dirichlet).parameters:
        assert hasattr(calibrator, name)
    assert set(calibrator.state_dict()) == {"coefficients", "converged"}
