import inspect
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import FAR, Calibrator, check_classes, check_held_out
from poise.errors import UserError


def predictions(logits: Tensor, label: Tensor) -> Predictions:
    return Predictions(logits=logits, features=None, label=label, group=None, index=torch.arange(len(label)))


def logits_with(row: int, column: int, value: float) -> Tensor:
    logits = torch.zeros(4, 3)
    logits[row, column] = value
    return logits


LABELS = torch.tensor([0, 1, 2, 0])


def test_good_predictions_pass() -> None:
    check_held_out(predictions(torch.randn(4, 3), LABELS))
    check_held_out(predictions(logits_with(0, 1, -math.inf), LABELS))
    check_held_out(predictions(torch.randn(4, 3), LABELS.int()))


@pytest.mark.parametrize(
    ("logits", "label", "message"),
    [
        (torch.zeros(1, 3), torch.tensor([0]), r"has 1 examples; .* needs 2 or more \(data\.calibration\)"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 3, 3]), r"Example 2 .* label outside 0…2 \(2 of 4 do\)"),
        (torch.zeros(4, 3), torch.tensor([0, -1, 2, 0]), r"Example 1 .* label outside 0…2 \(1 of 4 do\)"),
        (
            logits_with(2, 0, math.nan),
            LABELS,
            "Example 2 of the calibration split has logits that are not finite",
        ),
        (
            logits_with(3, 1, math.inf),
            LABELS,
            "Example 3 of the calibration split has logits that are not finite",
        ),
        (
            logits_with(3, 1, 1e38).double() ** 3,
            LABELS,
            r"Example 3 .* has finite logits beyond ±1e\+100 \(1 of 4 do\)",
        ),
        (logits_with(1, 1, -math.inf), LABELS, "Example 1 .* has the logit -inf for its own label"),
    ],
)
def test_what_nothing_can_be_fitted_to_is_refused(logits: Tensor, label: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_held_out(predictions(logits, label))


def test_arrays_and_integer_logits_are_refused() -> None:
    with pytest.raises(UserError, match="label is of type ndarray: give a torch tensor, as torch.from_numpy"):
        inspect.unwrap(Predictions.of.__func__)(Predictions, torch.zeros(4, 3), LABELS.numpy())  # type: ignore[attr-defined]
    whole = SimpleNamespace(logits=torch.zeros(4, 3, dtype=torch.int64), label=LABELS)
    with pytest.raises(UserError, match="logits of the calibration split are torch.int64: they have to be floats"):
        inspect.unwrap(check_held_out)(whole)


class Same(Calibrator):
    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().log_softmax(-1).to(logits.dtype)


def test_a_calibrator_looks_at_its_logits_and_rounds_none_to_infinity() -> None:
    with pytest.raises(UserError, match=r"takes float logits \[N, C\], not torch.int64 of shape \(4, 3\)"):
        inspect.unwrap(Calibrator.__call__)(Same(), torch.zeros(4, 3, dtype=torch.int64))
    most = torch.finfo(torch.float64).max
    logits = torch.tensor([[most, -most, -math.inf], [1.0, 2.0, 3.0]], dtype=torch.float64)
    assert Same()(logits)[0].tolist() == [0, -FAR, -math.inf]
    assert torch.equal(Same()(logits)[1], logits[1].log_softmax(-1)), "rows that do not need it are changed"
    assert Same()(torch.tensor([[3e38, -3e38]]))[0].tolist() == [0, torch.finfo(torch.float32).min]
    assert Same()(torch.full((1, 2), math.nan)).isnan().all(), "what is no number stays none"


class Half(Calibrator):
    def forward(self, logits: Tensor) -> Tensor:
        return (logits / 2).log_softmax(-1)


def test_a_calibrator_declares_nothing_unless_it_says_so() -> None:
    assert Calibrator.needs == frozenset()
    assert Calibrator.default is False
    with pytest.raises(NotImplementedError, match=r"Half has no fit\."):
        Half().fit(predictions(torch.zeros(4, 3), LABELS))
    with pytest.raises(NotImplementedError, match=r"Calibrator has no forward\."):
        Calibrator()(torch.zeros(4, 3))


class Shift(Calibrator):
    """Adds a number to each class."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(0, dtype=torch.float64))


def test_a_state_gives_buffers_their_size() -> None:
    fitted, fresh = Shift(), Shift()
    fitted.shift = torch.arange(3.0, dtype=torch.float64)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh.shift, fitted.shift)
    torch.nn.Sequential(fresh).load_state_dict({"0.shift": torch.ones(5)})
    assert fresh.shift.tolist() == [1.0] * 5
    assert fresh.shift.dtype == torch.float64


def test_as_many_classes_as_it_was_fitted_to() -> None:
    check_classes("shift", 3, torch.zeros(2, 3))
    with pytest.raises(UserError, match=r"^shift was fitted to 3 classes, and these logits have 4\.$"):
        check_classes("shift", 3, torch.zeros(2, 4))


class Slow(Calibrator):
    """Tells of two steps of its fit."""

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "Slow":
        self.advance(0.25)
        self.advance(0.5)
        return self


def test_who_watches_a_fit_is_told_of_all_of_it() -> None:
    told: list[float] = []
    slow = Slow()
    with slow.watched(told.append):
        slow.fit(predictions(torch.zeros(4, 3), LABELS))
    slow.fit(predictions(torch.zeros(4, 3), LABELS))
    assert told == [0.25, 0.5, 0.25]


def test_nobody_watches_any_more_after_a_fit_that_failed() -> None:
    told: list[float] = []
    slow = Slow()
    with pytest.raises(UserError), slow.watched(told.append):
        check_held_out(predictions(torch.zeros(1, 3), LABELS[:1]))
    slow.advance(1.0)
    assert told == []


def test_bare_logits_are_no_predictions() -> None:
    bare: Any = torch.zeros(3, 2), torch.zeros(3)
    with pytest.raises(UserError, match=r"not to a tuple: give Predictions.of\(logits, labels\)"):
        inspect.unwrap(check_held_out)(bare)
