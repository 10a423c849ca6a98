import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor, inf

from distorted import honest, predictions, with_masked_class
from held_out import nll
from poise.errors import UserError
from poise_recipes.calibration.beta_calibration import BetaCalibration, solve

# -- one class -----------------------------------------------------------------------------------------------------


def features(p: Tensor) -> Tensor:
    return torch.stack([p.log(), -(1 - p).log(), torch.ones_like(p)], 1)


def bounded_by_scipy(x: Tensor, truth: Tensor, strength: float) -> tuple[float, list[float]]:
    """The least value where a, b >= 0, and where it is."""
    matrix, side = x.numpy(), 2 * truth.double().numpy() - 1

    def value(coefficients: np.ndarray) -> float:
        penalty = strength * float(((coefficients - [1, 1, 0]) ** 2).sum())
        return penalty + float(np.logaddexp(0, -side * (matrix @ coefficients)).sum())

    def slope(coefficients: np.ndarray) -> np.ndarray:
        pull = -side / (1 + np.exp(side * (matrix @ coefficients)))
        return matrix.T @ pull + 2 * strength * (coefficients - [1, 1, 0])

    bounds = [(0, None), (0, None), (None, None)]
    options = {"ftol": 0.0, "gtol": 1e-12, "maxiter": 10000, "maxls": 100}
    found = minimize(value, np.ones(3), jac=slope, bounds=bounds, method="L-BFGS-B", options=options)
    return float(found.fun), [float(each) for each in found.x]


@given(
    st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([0.01, 1.0, 10.0]),
)
@settings(deadline=None)
def test_the_coefficients_are_those_that_scipy_finds(pairs: list[tuple[float, bool]], strength: float) -> None:
    p, truth = zip(*pairs, strict=True)
    x, labels = features(torch.tensor(p, dtype=torch.float64)), torch.tensor(truth)
    found = solve(x, labels, strength)
    _, wanted = bounded_by_scipy(x, labels, strength)
    assert (found[:2] >= 0).all()
    assert found.tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    ("slope_at_0", "slope_at_1", "zeros"), [(1.0, 2.0, []), (-0.3, 2.0, [0]), (2.0, -0.3, [1]), (-1.0, -1.0, [0, 1])]
)
def test_a_coefficient_that_would_be_negative_is_exactly_0(
    slope_at_0: float, slope_at_1: float, zeros: list[int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(3000, generator=generator, dtype=torch.float64)
    x = features(p)
    chance = (x @ torch.tensor([slope_at_0, slope_at_1, 0.3]).double()).sigmoid()
    truth = torch.rand(3000, generator=generator, dtype=torch.float64) < chance
    found = solve(x, truth, 1e-3)
    least, wanted = bounded_by_scipy(x, truth, 1e-3)
    assert [k for k in (0, 1) if found[k] == 0] == zeros
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)
    value = -F.logsigmoid((2 * truth.double() - 1) * (x @ found)).sum()
    value += 1e-3 * (found - torch.tensor([1.0, 1.0, 0.0])).square().sum()
    assert float(value) <= least + 1e-9


def test_true_coefficients_are_found() -> None:
    generator = torch.Generator().manual_seed(1)
    p = torch.rand(100000, generator=generator, dtype=torch.float64)
    x, true = features(p), torch.tensor([0.5, 1.5, -0.4]).double()
    truth = torch.rand(100000, generator=generator, dtype=torch.float64) < (x @ true).sigmoid()
    torch.testing.assert_close(solve(x, truth, 1.0), true, rtol=0, atol=0.05)


# -- rows of classes -----------------------------------------------------------------------------------------------


def test_what_is_calibrated_stays_so() -> None:
    made, test = honest(5000), honest(20000, seed=1)
    found = BetaCalibration().fit(made)
    assert nll(found, test) == pytest.approx(nll(BetaCalibration(), test), abs=2e-3)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_it_calibrates_logits_of_a_wrong_scale(scale: float) -> None:
    made, other = honest(5000), honest(5000, seed=1)
    found = BetaCalibration().fit(predictions(scale * made.logits, made.label))
    test, best = predictions(scale * other.logits, other.label), nll(BetaCalibration(), other)
    assert nll(found, test) - best < 0.2 * (nll(BetaCalibration(), test) - best)


def test_rows_are_the_curves_of_their_classes_divided_by_their_sum() -> None:
    made = honest(200)
    found = BetaCalibration().fit(made)
    p = made.logits.softmax(-1)
    a, b, c = found.coefficients.t()
    share = (a * p.log() - b * (1 - p).log() + c).sigmoid()
    torch.testing.assert_close(found(made.logits).exp(), share / share.sum(-1, keepdim=True))


def test_each_curve_never_falls() -> None:
    found = BetaCalibration().fit(honest(60, seed=3))
    p = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    curves = (features(p) @ found.coefficients.t()).sigmoid()
    assert (curves.diff(dim=0) >= -1e-15).all()


@pytest.mark.parametrize("right", [True, False])
def test_no_label_is_impossible_when_all_are_right_or_all_are_wrong(right: bool) -> None:
    label = torch.arange(3).repeat(4)
    rows = 2000 * F.one_hot(label, 3).double()
    made = predictions(rows, label if right else (label + 1) % 3)
    found = BetaCalibration().fit(made)
    assert found(rows).isfinite().all()
    assert found.coefficients.isfinite().all()
    assert nll(found, made) <= (1e-6 if right else math.log(3) + 1e-9)


def test_a_class_without_examples_loses_probability_and_keeps_some() -> None:
    made = honest(500, classes=3)
    kept = made.rows(made.label < 2)
    before, after = kept.logits.softmax(-1)[:, 2], BetaCalibration().fit(kept)(kept.logits).exp()[:, 2]
    assert (after < before).all()
    assert (after > 0).all()


def test_masked_classes_stay_masked_and_change_nothing() -> None:
    made = honest(200)
    never = with_masked_class(made)
    found = BetaCalibration().fit(never)
    calibrated = found(never.logits)
    assert (calibrated[:, -1] == -inf).all()
    assert found.coefficients[-1].tolist() == [1.0, 1.0, 0.0]
    torch.testing.assert_close(calibrated[:, :-1], BetaCalibration().fit(made)(made.logits))


def test_gradients_are_finite_where_a_probability_rounds_to_one() -> None:
    rows = torch.tensor([[100.0, 0.0, -inf, 1.0]], dtype=torch.float64, requires_grad=True)
    BetaCalibration().fit(honest(100))(rows)[0, 1].backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()
    assert rows.grad.any()


def test_a_row_with_one_possible_class_is_certain() -> None:
    found = BetaCalibration().fit(honest(50, classes=2))
    assert found(torch.tensor([[-inf, 3.0]])).exp().tolist() == [[0.0, 1.0]]


def test_what_was_not_fitted_is_the_softmax() -> None:
    logits = honest(10).logits
    assert torch.equal(BetaCalibration()(logits), logits.log_softmax(-1))


def test_a_later_fit_forgets_the_earlier_one_and_its_state_is_all() -> None:
    made, other = honest(100), BetaCalibration()
    once, again = BetaCalibration().fit(made), BetaCalibration().fit(honest(90, classes=7)).fit(made)
    other.load_state_dict(again.state_dict())
    assert torch.equal(other(made.logits), once(made.logits))


def test_it_needs_the_classes_it_was_fitted_to() -> None:
    with pytest.raises(UserError, match="beta_calibration was fitted to 4 classes, and these logits have 3"):
        BetaCalibration().fit(honest(30))(torch.zeros(1, 3))


def test_few_examples_of_a_class_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "poise"):
        BetaCalibration().fit(honest(30))
    assert caplog.messages == ["beta_calibration: 4 of 4 classes have fewer than 20 examples"]
