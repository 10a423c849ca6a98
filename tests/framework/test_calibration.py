import logging
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from poise.batch import Predictions
from poise.calibration import Calibration, fitted, folds, learnt, out_of_fold
from poise.calibrator import Calibrator
from poise.errors import UserError

log = logging.getLogger("poise")


def predictions(logits: Tensor, label: Tensor) -> Predictions:
    return Predictions(logits=logits, features=None, label=label, group=None, index=torch.arange(len(label)))


def overconfident(size: int = 60, classes: int = 3, factor: float = 3.0) -> Predictions:
    """Labels drawn from the softmax of a third of the logits."""
    generator = torch.Generator().manual_seed(size)
    z = 2 * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    return predictions(factor * z, torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0])


class Divided(Calibrator):
    """Divides logits by a number; remembers what it was fitted to."""

    def __init__(self, by: float = 1.0) -> None:
        super().__init__()
        self.by = by
        self.seen: list[int] = []

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "Divided":
        log.info("divided: looked at %d", len(held_out.label))
        self.seen = held_out.index.tolist()
        return self

    def forward(self, logits: Tensor) -> Tensor:
        return (logits / self.by).log_softmax(-1)


class Frequencies(Calibrator):
    """Gives every example the class frequencies of the examples it was fitted to."""

    log_frequency: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_frequency", torch.zeros(3, dtype=torch.float64))

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "Frequencies":
        counts = F.one_hot(held_out.label, 3).sum(0).double() + 1
        self.log_frequency.copy_((counts / counts.sum()).log())
        return self

    def forward(self, logits: Tensor) -> Tensor:
        return self.log_frequency.expand_as(logits)


class Memorising(Frequencies):
    """Certain of every logit row it was fitted to."""

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "Memorising":
        self.rows = {tuple(row): int(y) for row, y in zip(held_out.logits.tolist(), held_out.label, strict=True)}
        return self

    def forward(self, logits: Tensor) -> Tensor:
        sure = [self.rows.get(tuple(row), 0) for row in logits.tolist()]
        return (20 * F.one_hot(torch.tensor(sure), 3).double()).log_softmax(-1)


class Wordy(Divided):
    """Keeps seven numbers, which change nothing."""

    def __init__(self, by: float) -> None:
        super().__init__(by)
        self.register_buffer("numbers", torch.zeros(7))


class Nothing(Divided):
    def forward(self, logits: Tensor) -> Tensor:
        return torch.full_like(logits, math.nan)


class Shift(Divided):
    needs = frozenset({"unlabelled"})


# -- folds ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=3, max_size=60))
def test_folds_have_one_size_and_are_alike_in_classes(labels: list[int]) -> None:
    label = torch.tensor(labels)
    fold = folds(label)
    count = min(5, len(labels))
    sizes = fold.bincount(minlength=count)
    assert len(sizes) == count
    assert sizes.max() - sizes.min() <= 1
    for each in label.unique():
        held = fold[label == each].bincount(minlength=count)
        assert held.max() - held.min() <= 1
    assert torch.equal(fold, folds(label))


def test_each_example_is_judged_by_what_was_fitted_without_it() -> None:
    held_out = overconfident()
    by_hand = torch.empty_like(held_out.logits)
    for left_out in range(5):
        outside = folds(held_out.label) == left_out
        inside = predictions(held_out.logits[~outside], held_out.label[~outside])
        by_hand[outside] = Frequencies().fit(inside)(held_out.logits[outside])
    assert torch.equal(out_of_fold(Frequencies(), held_out), by_hand)
    found = fitted({"frequencies": Frequencies(), "divided": Divided()}, held_out)
    assert torch.equal(found.crossed["frequencies"], by_hand)
    assert found.scores["frequencies"] == pytest.approx(float(F.nll_loss(by_hand, held_out.label)), rel=1e-12)


def test_folds_keep_rows_together() -> None:
    held_out = overconfident()
    held_out = Predictions(held_out.logits, held_out.logits + 1, held_out.label, held_out.label % 2, held_out.index)
    looked_at = []

    class Looking(Divided):
        def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "Looking":
            assert held_out.features is not None
            assert held_out.group is not None
            assert torch.equal(held_out.features, held_out.logits + 1)
            assert torch.equal(held_out.group, held_out.label % 2)
            looked_at.append(len(held_out.label))
            return self

    out_of_fold(Looking(), held_out)
    assert looked_at == [48] * 5


# -- the choice ----------------------------------------------------------------------------------------------------


def test_the_lowest_cross_validated_nll_is_shipped() -> None:
    held_out = overconfident()
    calibrators = {"none": Divided(1.0), "right": Divided(3.0), "too_far": Divided(9.0)}
    found = fitted(calibrators, held_out)
    assert found.shipped == "right"
    assert list(found.scores) == ["uncalibrated", "none", "right", "too_far"]
    for alias, by in (("uncalibrated", 1), ("none", 1), ("right", 3), ("too_far", 9)):
        wanted = float(F.cross_entropy(held_out.logits / by, held_out.label))
        assert found.scores[alias] == pytest.approx(wanted, rel=1e-12)
    assert found.examples == 60


def test_what_only_remembers_is_not_chosen() -> None:
    held_out = overconfident()
    memorising, divided = Memorising(), Divided(3.0)
    found = fitted({"memorising": memorising, "divided": divided}, held_out)
    nll = [float(F.nll_loss(each(held_out.logits), held_out.label)) for each in (memorising, divided)]
    assert nll[0] < nll[1]
    assert found.shipped == "divided"


def test_the_calibrators_given_end_fitted_on_the_whole_split() -> None:
    calibrators = {"a": Divided(1.0), "b": Divided(3.0)}
    found = fitted(calibrators, overconfident())
    assert found.calibrators == calibrators
    assert all(each.seen == list(range(60)) for each in calibrators.values())


def test_of_equal_ones_the_first_is_shipped() -> None:
    assert fitted({"b": Divided(3.0), "a": Divided(3.0)}, overconfident()).shipped == "b"


def test_of_those_that_look_equal_the_simplest_is_shipped() -> None:
    calibrators = {"wordy": Wordy(3.0001), "a": Divided(3.0), "b": Divided(3.0)}
    found = fitted(calibrators, overconfident(400))
    assert found.scores["wordy"] < found.scores["a"]
    assert found.shipped == "a"
    assert [learnt(each) for each in calibrators.values()] == [7, 0, 0]
    assert "), of 3 equal ones the simplest; these examples cannot tell it from wordy, b (95 %)." in found.reason


def test_what_examples_cannot_tell_apart_is_said() -> None:
    found = fitted({"right": Divided(3.0), "near": Divided(3.2), "too_far": Divided(9.0)}, overconfident(400))
    assert found.as_good == ["near" if found.shipped == "right" else "right"]
    assert f"; these examples cannot tell it from {found.as_good[0]} (95 %)." in found.reason
    clear = fitted({"right": Divided(3.0), "too_far": Divided(9.0)}, overconfident(400))
    assert clear.as_good == []
    assert "cannot tell" not in clear.reason
    few = fitted({"right": Divided(3.0), "near": Divided(3.2)}, overconfident(6))
    assert "uncalibrated" in few.as_good


def test_what_gives_no_numbers_is_not_shipped() -> None:
    found = fitted({"nothing": Nothing(), "some": Divided(3.0)}, overconfident())
    assert found.shipped == "some"
    assert "nothing" not in found.as_good
    assert found.scores["nothing"] == math.inf


def test_the_model_as_it_is_is_shipped_where_nothing_is_better() -> None:
    found = fitted({"surer": Divided(0.5), "surest": Divided(0.2)}, overconfident(400))
    assert found.shipped is None
    assert found.reason.startswith("The model is shipped as it is: no calibrator has a lower cross-validated NLL on ")
    assert fitted({"surer": Divided(0.5)}, overconfident(400)).shipped == "surer"


def test_what_gives_no_numbers_is_said_where_it_is_alone(caplog: pytest.LogCaptureFixture) -> None:
    fitted({"nothing": Nothing()}, overconfident())
    assert caplog.messages[-1] == "nothing gives NaN for 60 of the 60 examples that it was fitted to"


def test_a_bar_is_told_of_each_fit() -> None:
    told: list[Any] = []

    def progress(title: str, total: int) -> Any:
        told.append(total)
        return nullcontext(told.append)

    fitted({"a": Divided(), "b": Divided()}, overconfident(), progress=progress)
    assert told == [12, *[1] * 12]


def test_one_calibrator_is_shipped_without_a_choice() -> None:
    calibrator = Divided(9.0)
    found = fitted({"alone": calibrator}, overconfident())
    assert (found.shipped, found.scores) == ("alone", {})
    assert len(calibrator.seen) == 60


def test_nothing_is_shipped_where_there_is_no_calibrator() -> None:
    assert fitted({}, overconfident()) == Calibration({}, None, {}, 60)


def test_two_examples_are_too_few_to_choose_by() -> None:
    held_out = predictions(torch.eye(3)[:2].double(), torch.tensor([0, 1]))
    found = fitted({"a": Divided(9.0), "b": Divided(1.0)}, held_out)
    assert (found.shipped, found.scores) == ("a", {})


def test_three_examples_have_three_folds() -> None:
    held_out = predictions(torch.eye(3).double(), torch.tensor([0, 1, 2]))
    assert fitted({"a": Divided(9.0), "b": Divided(0.1)}, held_out).shipped == "b"


def test_real_calibrators_find_what_the_logits_lack() -> None:
    from poise_recipes import HCalibration, TemperatureScaling

    held_out = overconfident(200)
    first, second = (
        fitted({"one": TemperatureScaling(), "many": HCalibration(steps=20)}, held_out).scores for _ in range(2)
    )
    assert max(first["one"], first["many"]) < first["uncalibrated"]
    assert first == second


def test_it_can_be_fitted_where_gradients_are_off() -> None:
    from poise_recipes import HCalibration, TemperatureScaling

    with torch.no_grad():
        found = fitted({"t": TemperatureScaling(), "h": HCalibration(steps=3)}, overconfident())
    assert found.shipped in {"t", "h"}


# -- what is said --------------------------------------------------------------------------------------------------


def test_the_log_tells_of_the_whole_split_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "poise"):
        fitted({"a": Divided(1.0), "b": Divided(3.0)}, overconfident())
        log.info("still heard")
    wanted = ["divided: looked at 60", "fitted a on 60 examples", "divided: looked at 60", "fitted b on 60 examples"]
    assert caplog.messages == [*wanted, "still heard"]


@pytest.mark.parametrize(
    ("scores", "shipped", "told"),
    [
        ({}, None, "There is no calibrator: what is shipped is uncalibrated."),
        (
            {"uncalibrated": 0.5, "a": 0.25, "b": 0.3},
            "a",
            "a is shipped, the calibrator with the lowest cross-validated NLL on 179 examples "
            "(a 0.2500, b 0.3000, uncalibrated 0.5000).",
        ),
        (
            {"uncalibrated": 0.2, "a": 0.25, "b": 0.3},
            None,
            "The model is shipped as it is: no calibrator has a lower cross-validated NLL on 179 examples "
            "(uncalibrated 0.2000, a 0.2500, b 0.3000). A calibrator that is named alone is shipped in any case.",
        ),
        ({}, "a", "a is shipped, the first: 179 examples are too few to choose by."),
    ],
)
def test_the_reason_says_what_is_shipped_and_why(scores: dict[str, float], shipped: str | None, told: str) -> None:
    calibrators: dict[str, Calibrator] = {"a": Divided(), "b": Divided()} if scores or shipped else {}
    assert Calibration(calibrators, shipped, scores, 179).reason == told


def test_the_reason_of_one() -> None:
    told = fitted({"alone": Divided()}, overconfident()).reason
    assert told == "alone is shipped, the only calibrator, fitted on 60 examples."


class Saying(Divided):
    """Says what it settled on."""

    @property
    def settled(self) -> str:
        return f"by {self.by:g}"


def test_what_fits_came_to_is_said_of_those_that_say_it() -> None:
    calibrators = {"one": Saying(2.0), "silent": Divided(), "other": Saying(3.0)}
    assert fitted(calibrators, overconfident()).settled == "Fitted: one, by 2; other, by 3."
    assert fitted({"silent": Divided()}, overconfident()).settled == ""


# -- refusals ------------------------------------------------------------------------------------------------------


def test_what_needs_unlabelled_data_is_refused_without_them_before_anything_is_fitted() -> None:
    first = Divided()
    with pytest.raises(UserError, match="shift needs unlabelled data: give the data a stream called `unlabelled`"):
        fitted({"first": first, "shift": Shift()}, overconfident())
    assert first.seen == []
    held_out = overconfident()
    assert fitted({"shift": Shift()}, held_out, unlabelled=held_out).shipped == "shift"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"label": torch.tensor([0, 1, 5])}, "Example 2 of the calibration split has a label outside 0…2"),
        ({"logits": torch.full((3, 3), math.nan)}, "Example 0 of the calibration split has logits that are not finite"),
    ],
)
def test_what_cannot_be_fitted_to_is_refused(changed: dict[str, Any], told: str) -> None:
    good: dict[str, Any] = {"logits": torch.eye(3), "label": torch.tensor([0, 1, 2])}
    with pytest.raises(UserError, match=told):
        fitted({"a": Divided(), "b": Divided()}, predictions(**(good | changed)))
