"""Words for a calibration: they follow the numbers."""

import re

import pytest
import torch
from torch import Tensor

from poise.batch import Predictions
from poise.calibration import Calibration, fitted
from poise.explaining import explained
from poise.metrics.summary import summarised
from poise_recipes import Isotonic, TemperatureScaling

GENERATOR = torch.Generator().manual_seed(0)
HONEST = 2 * torch.randn(4000, 4, generator=GENERATOR, dtype=torch.float64)
LABEL = torch.multinomial(HONEST.softmax(1), 1, generator=GENERATOR)[:, 0]


CLASSES = ("ant", "bee", "cat", "dog")


def told(logits: Tensor, columns: dict[str, Tensor], shipped: str | None = "mine", label: Tensor = LABEL) -> str:
    calibration = Calibration({name: TemperatureScaling() for name in columns}, shipped, {}, len(label))
    rows = Predictions.of(logits, label)
    return "\n".join(explained(rows, columns, calibration, rows, CLASSES))


def test_too_sure_too_unsure_and_neither() -> None:
    for factor, verdict in ((2.0, "over-confident by"), (0.4, "under-confident by"), (1.0, "neither too sure")):
        assert verdict in told(factor * HONEST, {}, None)


def test_chance_is_what_a_model_shows_that_means_what_it_says() -> None:
    (line,) = [line for line in told(HONEST, {}, None).splitlines() if "ECE" in line]
    own, chance = (float(word) for word in line.replace(",", "").split() if word.startswith("0.0"))
    assert 0.5 * chance < own < 2 * chance


def test_chance_is_the_error_of_labels_that_are_drawn_from_what_the_model_says() -> None:
    logits = 2 * HONEST
    keyed = torch.Generator().manual_seed(1)
    labels = (torch.multinomial(logits.softmax(1), 1, generator=keyed)[:, 0] for _ in range(50))
    wanted = sum(summarised(logits, label).scores["ece"] for label in labels) / 50
    (chance,) = re.findall(r"means what it says shows (0\.\d+) on as many", told(logits, {}, None))
    assert float(chance) == pytest.approx(wanted, rel=0.1)


def test_whom_to_trust() -> None:
    better = told(3 * HONEST, {"mine": HONEST, "other": HONEST + 1e-9 * LABEL[:, None], "worse": 2 * HONEST})
    assert "mine lowers it by" in better
    assert "trust it rather than the model as it is" in better
    assert "other differs from mine by" in better
    assert "worse is worse than mine by" in better
    assert (
        "the choice of mine, which is shipped, rather than other is uncertain; it is the simplest of them, and the "
        "safest (numbers learnt: mine 1, other 1)" in better
    )
    assert "the choice" not in told(3 * HONEST, {"mine": HONEST, "worse": 2 * HONEST})
    assert "mine raises it by" in told(HONEST, {"mine": 3 * HONEST})
    nearly = HONEST + 0.02 * torch.randn(HONEST.shape, generator=torch.Generator().manual_seed(3))
    unsure = told(HONEST, {"mine": nearly})
    assert "these rows cannot tell whether it is better" in unsure
    assert "the simplest is the safest: uncalibrated, which calibration=none ships" in unsure


def test_the_model_as_it_is_may_be_what_is_shipped() -> None:
    alike = told(HONEST, {"same": HONEST + 1e-9 * LABEL[:, None], "worse": 2 * HONEST}, None)
    assert "The model is shipped as it is" in alike
    assert "worse is worse than uncalibrated by" in alike
    assert "same differs from uncalibrated by" in alike
    assert "the choice of uncalibrated, which is shipped, rather than same is uncertain; it is the simplest" in alike


def test_it_speaks_of_the_choice_that_the_command_makes() -> None:
    held_out = Predictions.of(HONEST[:400], LABEL[:400])
    calibration = fitted({"one": TemperatureScaling(), "many": Isotonic()}, held_out)
    lines = explained(held_out, calibration.crossed, calibration, held_out, CLASSES)
    shipped = calibration.shipped or "uncalibrated"
    choices = [line for line in lines if "the choice of" in line]
    assert bool(choices) == bool(calibration.as_good)
    for line in choices:
        assert f"the choice of {shipped}, which is shipped, rather than {', '.join(calibration.as_good)} is" in line


def test_a_gain_on_rows_that_are_all_right_is_no_reason_for_trust() -> None:
    surer = told(HONEST, {"mine": 9 * HONEST}, label=HONEST.argmax(1))
    assert "mine lowers it by" in surer
    assert "with 0 of 4000 rows predicted wrong that is no reason to trust it" in surer
    assert "trust it rather than" not in surer


def test_a_fit_that_doubts_itself_is_not_trusted_for_its_gain() -> None:
    held_out = Predictions.of(0.004 * HONEST, LABEL)
    calibrator = TemperatureScaling().fit(held_out)
    columns = {"mine": calibrator(held_out.logits)}
    lines = explained(held_out, columns, Calibration({"mine": calibrator}, "mine", {}, 4000), held_out, CLASSES)
    assert any(line.endswith("but do not rely on it: T = 0.01 is a bound of 0.01…100.") for line in lines)


def test_doubts_come_first_and_those_of_test_rows_too() -> None:
    held_out, test = Predictions.of(HONEST, LABEL), Predictions.of(5 * HONEST, LABEL.roll(1))
    first, second, *_ = explained(test, {}, Calibration({}, None, {}, 4000), held_out, CLASSES)
    assert first == "What this says:"
    assert second.startswith("- Of the 4000 rows to test on")
