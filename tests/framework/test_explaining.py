"""Words for a calibration: they follow the numbers."""

import re

import pytest
import torch
from torch import Tensor

from poise.batch import Predictions
from poise.calibration import Calibration
from poise.explaining import explained
from poise.metrics.summary import summarised
from poise_recipes import TemperatureScaling

GENERATOR = torch.Generator().manual_seed(0)
HONEST = 2 * torch.randn(4000, 4, generator=GENERATOR, dtype=torch.float64)
LABEL = torch.multinomial(HONEST.softmax(1), 1, generator=GENERATOR)[:, 0]


def told(logits: Tensor, columns: dict[str, Tensor], shipped: str | None = "mine") -> str:
    rows = Predictions(logits, None, LABEL, group=None, index=torch.arange(len(LABEL)))
    calibrators = {name: TemperatureScaling() for name in columns}
    return "\n".join(explained(rows, columns, Calibration(calibrators, shipped, {}, len(LABEL))))


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
    assert "other differs from it by" in better
    assert "worse is worse than it by" in better
    assert (
        "the choice among mine, other is uncertain. Unless more rows decide it, the simplest is the safest: mine"
        in better
    )
    assert "the choice" not in told(3 * HONEST, {"mine": HONEST, "worse": 2 * HONEST})
    assert "mine raises it by" in told(HONEST, {"mine": 3 * HONEST})
    nearly = HONEST + 0.02 * torch.randn(HONEST.shape, generator=torch.Generator().manual_seed(3))
    assert "these rows cannot tell whether it is better" in told(HONEST, {"mine": nearly})
