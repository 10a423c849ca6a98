from dataclasses import replace

import pytest
import torch
from torch import Tensor

from held_out import bent, calibrated_logits, noisy
from poise.batch import Predictions
from poise_recipes.calibration.h.descent import Descent
from poise_recipes.calibration.h.mapping import Mapping
from poise_recipes.calibration.h.mixture import Mixture
from poise_recipes.calibration.h.monotone import Monotone
from poise_recipes.calibration.h.objective import h_loss
from poise_recipes.calibration.h.piecewise import Piecewise
from poise_recipes.calibration.h.rows import Rows
from poise_recipes.calibration.h.selectors import SELECTORS, Selector, proper_score
from poise_recipes.calibration.temperature_scaling import solve_temperature

DESCENT = Descent(proper_score, window=201, tolerance=0.0, steps=100, patience=25)
FAMILIES = [Mixture(16, 0.01, 100.0), Piecewise(100), Monotone(10)]


def rows(made: Predictions) -> Rows:
    return Rows.of(made.logits, made.label, solve_temperature(made.logits, made.label, 0.01, 100.0)[0])


def found(descent: Descent, mapping: Mapping, given: Rows) -> tuple[Tensor, list[float]]:
    told: list[float] = []
    return descent(mapping, given, told.append), told


def loss(mapping: Mapping, given: Rows, parameters: Tensor) -> float:
    events = torch.cat([mapping.probabilities(log_p, parameters).flatten() for log_p in given.log_p])
    return float(h_loss(events, given.occurred, 201)[0])


@pytest.mark.parametrize("mapping", FAMILIES, ids=lambda each: type(each).__name__)
def test_every_family_comes_to_less_loss_and_a_better_score(mapping: Mapping) -> None:
    given = rows(noisy(3000)[0])
    parameters, _ = found(DESCENT, mapping, given)
    straight = loss(Piecewise(1), given, torch.zeros(1, dtype=torch.float64))
    assert loss(mapping, given, parameters) < 0.9 * straight
    assert proper_score([mapping.probabilities(each, parameters) for each in given.log_p], given.label) < proper_score(
        [each.exp() for each in given.log_p], given.label
    )


@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
def test_the_step_that_is_kept_is_the_best_of_all_by_the_selector(selector: Selector) -> None:
    given, scores = rows(bent(300)), []
    for steps in (1, 40):
        descent = replace(DESCENT, selector=selector, steps=steps)
        parameters, _ = found(descent, FAMILIES[0], given)
        scores.append(
            descent.selector([FAMILIES[0].probabilities(each, parameters) for each in given.log_p], given.label)
        )
    assert scores[1] < scores[0]


def test_all_of_the_search_is_told_of_whenever_it_ends() -> None:
    given = rows(bent(200))
    _, whole = found(replace(DESCENT, steps=10), FAMILIES[0], given)
    assert whole == [0.1] * 10
    made = calibrated_logits(200, 10)
    _, cut = found(replace(DESCENT, steps=400, patience=3), FAMILIES[1], Rows.of(made.logits, made.label, 1.0))
    assert len(cut) < 200
    assert sum(cut) == pytest.approx(1.0)


def test_patience_that_is_not_used_up_changes_nothing() -> None:
    given = rows(bent(200))
    short, _ = found(replace(DESCENT, steps=20, patience=20), FAMILIES[0], given)
    long, _ = found(replace(DESCENT, steps=20, patience=1000), FAMILIES[0], given)
    assert torch.equal(short, long)


def test_with_a_tolerance_that_nothing_exceeds_it_stays_where_it_starts() -> None:
    given = rows(bent(200))
    parameters, _ = found(replace(DESCENT, tolerance=0.999), FAMILIES[1], given)
    assert not parameters.any()
