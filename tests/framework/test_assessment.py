"""What stands below the numbers of a report."""

import logging

import pytest
import torch
from torch import Tensor, nn

from poise.assessment import evaluate, learnt, remarks
from poise.attacks.threat import Threat
from poise.calibration import Calibration
from poise.calibrator import Calibrator
from poise.evaluator import Evaluator, Findings, Subject
from poise.models.classifier import Classifier
from small_runs import CLASSES, network, rows, splits

NONE = Calibration({}, None, {}, 24, {})


class Reader(nn.Module):
    """Finds the bright row that says the class, where it looks."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(CLASSES) * float(looks))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0, :CLASSES].mean(2) @ self.weight


def subject_of(model: nn.Module, **changes: object) -> Subject:
    data = splits(**changes)
    return Subject(Classifier.wrap(model, data.num_classes), data, Threat("linf", 0.1))


def test_a_training_that_came_to_nothing_is_warned_of_and_another_is_not() -> None:
    (doubt,) = learnt(subject_of(Reader(looks=False))).doubts
    assert doubt.startswith("on val the model is right as often as by chance: 33.33 % of 24 examples, where ")
    assert doubt.endswith(": little was learnt. A lower optimizer.lr or trainer.gradient_clip=1 may help")
    assert learnt(subject_of(Reader(looks=True))).doubts == ()


def test_sets_that_nobody_has_looked_at_are_named() -> None:
    here = subject_of(network(), ood={"frogs": rows(4, 0), "letters": rows(4, 1)})
    (_, told) = remarks(here, NONE, Findings(), "why")
    assert told.startswith("OOD sets: frogs, letters, for evaluators that look at such")
    (_, told) = remarks(here, NONE, Findings({"test/ood/frogs/msp/auroc": 0.9}), "why")
    assert told.startswith("OOD sets: letters, ")


def test_what_evaluators_note_is_told_and_what_they_doubt_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    one, other = Findings(notes=("It was looked at.",), doubts=("it is odd",)), Findings(notes=("Twice.",))
    with caplog.at_level(logging.WARNING, logger="poise"):
        told = remarks(subject_of(network()), NONE, Findings.merged([one, other]), "why")
    assert told == ["why", "It was looked at.", "Twice.", "Warning: it is odd."]
    assert caplog.messages == ["it is odd"]


class Settled(Calibrator):
    settled = "T = 2"


def test_what_calibrators_settled_on_is_told_after_the_reason() -> None:
    calibration = Calibration({"scaled": Settled()}, "scaled", {}, 9)
    assert remarks(subject_of(network()), calibration, Findings(), "why") == ["why", "Fitted: scaled, T = 2."]


@pytest.mark.parametrize(("after", "told"), [(0.85, True), (0.9, False), (0.95, False)])
def test_a_calibrator_that_is_shipped_and_lowers_accuracy_is_told_of(after: float, told: bool) -> None:
    calibration = Calibration({"turned": Settled()}, "turned", {}, 9)
    metrics = {"test/accuracy": 0.9, "test/turned/accuracy": after, "test/turned/changed_predictions": 0.0712}
    lines = remarks(subject_of(network()), calibration, Findings(metrics), "why")
    lowered = "turned changes the predicted class of 7.12 % of test, and lowers accuracy from 90.00 to 85.00 %."
    assert (lowered in lines) == told
    assert len(lines) == 2 + told


class Measured(Evaluator):
    def __init__(self, **metrics: float) -> None:
        self.metrics = {f"test/{name}": value for name, value in metrics.items()}

    def evaluate(self, subject: Subject) -> Findings:
        return Findings(self.metrics)


def test_two_evaluators_that_give_other_numbers_by_one_name_are_warned_of() -> None:
    data = splits()
    subject = Subject(Classifier.wrap(network(), data.num_classes), data, Threat("linf", 0.1))
    same = evaluate(subject, NONE, [Measured(a=0.5, b=float("nan")), Measured(a=0.5, b=float("nan"), c=1.0)])
    assert same.doubts == ()
    found = evaluate(subject, NONE, [Measured(a=0.5, c=0.0), Measured(a=0.25, c=1.0)])
    (doubt,) = found.doubts
    assert doubt.startswith("two evaluators give test/a and 1 more by the same name, 0.25 and 0.5, of which")
