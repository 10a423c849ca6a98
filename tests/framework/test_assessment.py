"""What stands below the numbers of a report."""

import logging

import pytest

from poise.assessment import evaluate, remarks
from poise.attacks.threat import Threat
from poise.calibration import Calibration
from poise.evaluator import Evaluator, Findings, Subject
from poise.models.classifier import Classifier
from small_runs import network, rows, splits

NONE = Calibration({}, None, {}, 24, {})


def said(accuracies: dict[str, float], **changes: object) -> list[str]:
    data = splits(**changes)
    subject = Subject(Classifier.wrap(network(), data.num_classes), data, Threat("linf", 0.1))
    metrics = {f"test/accuracy/class/{name}": value for name, value in accuracies.items()}
    return remarks(subject, NONE, Findings(metrics), "why")


def test_a_model_that_has_learnt_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="poise"):
        (reason, warning) = said({"a": 0.0, "b": 1.0, "c": 0.0})
    assert reason == "why"
    assert warning.startswith("Warning: on test b is always predicted right and no other class ever: little was learnt")
    assert "on test b is always" in caplog.text


@pytest.mark.parametrize("accuracies", [{"a": 0.0, "b": 0.9, "c": 0.0}, {"a": 0.1, "b": 1.0}, {"a": 1.0}, {}])
def test_one_that_has_learnt_something_is_not(accuracies: dict[str, float]) -> None:
    assert said(accuracies) == ["why"]


def test_sets_that_nobody_has_looked_at_are_named() -> None:
    (_, told) = said({}, ood={"frogs": rows(4, 0), "letters": rows(4, 1)})
    assert told.startswith("OOD sets: frogs, letters, for evaluators that look at such")


def test_what_evaluators_note_is_told_and_what_they_doubt_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    data = splits()
    subject = Subject(Classifier.wrap(network(), data.num_classes), data, Threat("linf", 0.1))
    one, other = Findings(notes=("It was looked at.",), doubts=("it is odd",)), Findings(notes=("Twice.",))
    with caplog.at_level(logging.WARNING, logger="poise"):
        told = remarks(subject, NONE, Findings.merged([one, other]), "why")
    assert told == ["It was looked at.", "Twice.", "why", "Warning: it is odd."]
    assert caplog.messages == ["it is odd"]


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
