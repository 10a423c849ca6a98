"""Why rows may be no ground to calibrate on."""

import pytest
import torch
from torch import Tensor

from poise.batch import Predictions
from poise.doubts import FEW_MISTAKES, doubts, of_labels
from poise_recipes import TemperatureScaling

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(600, 3, generator=GENERATOR, dtype=torch.float64)
LABEL = torch.multinomial(LOGITS.softmax(1), 1, generator=GENERATOR)[:, 0]
CLASSES = ("ant", "bee", "cat")


def told(logits: Tensor, label: Tensor) -> list[str]:
    return list(doubts(Predictions.of(logits, label), {}, CLASSES))


def with_mistakes(count: int) -> Tensor:
    label = LOGITS.argmax(1)
    label[:count] = LOGITS[:count].argmin(1)
    return label


def test_ordinary_rows_are_not_doubted() -> None:
    assert told(LOGITS, LABEL) == []
    assert told(3 * LOGITS, LABEL) == []


def test_rows_that_are_all_right() -> None:
    (line,) = told(LOGITS, with_mistakes(0))
    assert line.startswith("Every one of the 600 rows to fit on is predicted right.")
    assert "Keep the model as it is" in line


@pytest.mark.parametrize("count", range(1, FEW_MISTAKES))
def test_few_mistakes(count: int) -> None:
    (line,) = told(LOGITS, with_mistakes(count))
    assert line.startswith(f"Of the 600 rows to fit on {count} {'is' if count == 1 else 'are'} predicted wrong")
    assert told(LOGITS, with_mistakes(FEW_MISTAKES)) == []


def test_few_rows() -> None:
    (line,) = told(LOGITS[:99], LABEL[:99])
    assert line.startswith("99 rows are few")
    assert told(LOGITS[:100], LABEL[:100]) == []


def test_a_class_without_rows() -> None:
    rows = LABEL != 1
    (line,) = told(LOGITS[rows], LABEL[rows])
    assert line.startswith("1 of the 3 classes has no row to fit on: bee.")


def test_labels_that_do_not_belong_to_the_rows() -> None:
    shuffled = LABEL[torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    (line,) = told(2 * LOGITS, shuffled)
    assert "as if labels were dealt by lot (33." in line
    assert "Do the labels belong to these rows?" in line


def test_some_labels_that_do_not_belong_to_the_rows() -> None:
    partly = torch.cat([LABEL[:200], LABEL[200:].roll(1)])
    (line,) = told(5 * LOGITS, partly)
    assert "by lot" not in line
    assert "Do the labels belong to these rows?" in line


def test_a_model_that_knows_nothing_and_says_so_is_not_doubted() -> None:
    keyed = torch.Generator().manual_seed(2)
    unsure = Predictions.of(0.01 * torch.randn(600, 3, generator=keyed), torch.randint(3, (600,), generator=keyed))
    assert list(of_labels(unsure, "to fit on")) == []


def test_a_fit_that_doubts_itself() -> None:
    held_out = Predictions.of(0.001 * LOGITS, LABEL)
    (line,) = doubts(held_out, {"mine": TemperatureScaling().fit(held_out)}, CLASSES)
    assert line == "mine is not to be relied on: T = 0.01 is a bound of 0.01…100."
