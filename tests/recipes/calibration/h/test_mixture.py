import math

import pytest
import torch
from torch import Tensor

from held_out import calibrated_logits, noisy
from poise_recipes.calibration.h.mixture import Mixture
from poise_recipes.calibration.h.rows import Rows
from poise_recipes.calibration.temperature_scaling import solve_temperature

MIXTURE = Mixture(temperatures=3, lowest=0.01, highest=100.0)
PARAMETERS = torch.tensor([-2.3, -0.4, 0.7, 0.1, 0.0, -0.6], dtype=torch.float64)


def directly(log_p: Tensor, parameters: Tensor) -> Tensor:
    log_inverse, score = parameters.view(2, -1)
    return torch.einsum("k,kcn->cn", score.softmax(0), (log_inverse.exp()[:, None, None] * log_p).softmax(1))


def test_the_map_is_the_mixture() -> None:
    log_p = calibrated_logits(50, 5).logits.t()
    wanted = directly(log_p, PARAMETERS)
    torch.testing.assert_close(MIXTURE.probabilities(log_p, PARAMETERS), wanted)
    torch.testing.assert_close(MIXTURE.log_probabilities(log_p, PARAMETERS).exp(), wanted)


def test_slopes_are_those_of_the_mixture() -> None:
    log_p = calibrated_logits(50, 5).logits.t()
    slope = torch.randn(5, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = torch.autograd.functional.jacobian(lambda moved: (directly(log_p, moved) * slope).sum(), PARAMETERS)
    found = MIXTURE.slopes(log_p, PARAMETERS, MIXTURE.probabilities(log_p, PARAMETERS), slope)
    torch.testing.assert_close(found, wanted)


def started(temperatures: int, noise: bool) -> Tensor:
    made = noisy(500)[0] if noise else calibrated_logits(500, 10)
    best, _ = solve_temperature(made.logits, made.label, 0.01, 100.0)
    return Mixture(temperatures, 0.01, 100.0).start(Rows.of(made.logits, made.label, best)).view(2, -1)


def test_it_starts_around_one_temperature() -> None:
    log_inverse, score = started(5, noise=False)
    assert log_inverse.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert not score.any()


def test_where_labels_are_noise_a_hot_temperature_has_their_share() -> None:
    log_inverse, score = started(16, noise=True)
    assert log_inverse[0] == -3.0
    assert 0.02 < score.softmax(0)[0] < 0.08
    assert log_inverse[1:].mean() > 0.1, "the other labels are colder than all of them"


@pytest.mark.parametrize(("moved", "bound"), [(9.0, 0.01), (-9.0, 100.0)])
def test_temperatures_stay_within_bounds(moved: float, bound: float) -> None:
    parameters = PARAMETERS.clone()
    assert not MIXTURE.at_bound(parameters)
    parameters[[1, 4]] = moved
    MIXTURE.confine(parameters)
    assert float((-parameters[1]).exp()) == pytest.approx(bound)
    assert parameters[4] == moved, "a weight has no bounds"
    assert MIXTURE.at_bound(parameters)


def test_what_is_unlikely_keeps_its_logarithm() -> None:
    log_p = torch.tensor([[0.0], [-5000.0]], dtype=torch.float64)
    found = MIXTURE.log_probabilities(log_p, PARAMETERS)
    assert float(found[1, 0]) == pytest.approx(math.exp(-2.3) * -5000 + float(PARAMETERS[3:].log_softmax(0)[0]))
