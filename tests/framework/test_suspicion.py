"""What is said of examples that were seen before they were measured on."""

import torch
from torch import Tensor

from poise.batch import Predictions
from poise.data.dataset import Arrays
from poise.suspicion import no_logits, repeated, trained_on


def _seen(logits: Tensor, label: Tensor) -> Predictions:
    return Predictions(logits, None, label, None, torch.arange(len(label)))


def _drawn(count: int, generator: torch.Generator) -> Predictions:
    """Logits of a calibrated model, and labels drawn from what they say."""
    logits = 2 * torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return _seen(logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0])


def test_held_out_splits_are_not_suspected() -> None:
    generator = torch.Generator().manual_seed(0)
    assert sum(bool(trained_on(_drawn(200, generator), _drawn(300, generator))) for _ in range(200)) == 0


def test_a_split_that_was_learnt_by_heart_is() -> None:
    generator = torch.Generator().manual_seed(0)
    test = _drawn(300, generator)
    known = _drawn(200, generator)
    known = _seen(known.logits, known.logits.argmax(1))
    assert "the model fits the calibration split better than test (NLL 0." in trained_on(known, test)
    assert trained_on(test, known) == ""


def test_repeated_rows_are_counted() -> None:
    x = torch.rand(6, 3)
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    assert repeated(Arrays(x[:3], label[:3]), Arrays(x[3:], label[3:])) == ""
    assert repeated(Arrays(x[:4], label[:4]), Arrays(x[3:], label[3:])).startswith("1 of 3 test examples")


def test_probabilities_are_no_logits() -> None:
    seen = _drawn(20, torch.Generator().manual_seed(0))
    assert no_logits(seen) == ""
    assert no_logits(_seen(seen.logits.sigmoid(), seen.label)) == ""
    assert "gives probabilities" in no_logits(_seen(seen.logits.softmax(1), seen.label))
