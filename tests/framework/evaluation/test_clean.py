from dataclasses import replace
from functools import cache
from typing import ClassVar

import pytest
import torch

from poise.attacks.threat import Threat
from poise.calibrator import Calibrator
from poise.data.dataset import Arrays
from poise.distributed import Ranks
from poise.evaluation.clean import Clean
from poise.evaluator import Findings, Subject
from poise.figures.parts import Parts
from poise.figures.reliability import Reliability
from poise.models.classifier import Classifier
from poise.predictions import predict
from poise.scores import sheets
from poise_recipes import TemperatureScaling
from small_runs import network, splits

SCORES = {"accuracy", "nll", "brier", "ece", "ece_equal_mass", "classwise_ece", "mce", "confidence"}


@cache
def subject() -> Subject:
    data = splits()
    model = Classifier.wrap(network(), data.num_classes)
    scaled = TemperatureScaling().fit(predict(model, data.calibration, Ranks()))
    return Subject(model, data, Threat("linf", 8 / 255), {"scaled": scaled})


@cache
def found() -> Findings:
    return Clean(bins=5).evaluate(subject())


def test_all_scores_are_there_before_and_after_each_calibrator() -> None:
    for prefix in ("test", "test/scaled"):
        own = {name.removeprefix(f"{prefix}/") for name in found().metrics if name.startswith(f"{prefix}/")}
        assert own >= SCORES | {"worst_class_accuracy", "worst_group_accuracy", "accuracy/class/a", "accuracy/group/l"}


def test_scores_are_those_of_the_predictions() -> None:
    seen = predict(subject().model, subject().splits.test, Ranks())
    right = seen.logits.argmax(1) == seen.label
    confidence = seen.logits.double().softmax(1).amax(1)
    assert found().metrics["test/accuracy"] == pytest.approx(float(right.double().mean()))
    assert found().metrics["test/confidence"] == pytest.approx(float(confidence.mean()))
    of_class = [float(right[seen.label == place].double().mean()) for place in range(3)]
    assert [found().metrics[f"test/accuracy/class/{name}"] for name in "abc"] == pytest.approx(of_class)
    assert found().metrics["test/worst_class_accuracy"] == pytest.approx(min(of_class))


def test_every_name_in_the_table_is_explained() -> None:
    for sheet in sheets(found().metrics, ["scaled"]):
        for row in sheet.scores().rows:
            assert found().meanings[row.name.partition(" ")[0]]


def test_the_diagram_holds_what_the_ece_is_made_of() -> None:
    diagram = found().figures["test-reliability"]
    assert isinstance(diagram, Reliability)
    assert [column.name for column in diagram.columns] == ["uncalibrated", "scaled"]
    for prefix, column in zip(("test", "test/scaled"), diagram.columns, strict=True):
        bins = zip(column.counts, column.confidence, column.accuracy, strict=True)
        error = sum(count * abs(c - a) for count, c, a in bins if count) / sum(column.counts)
        assert error == pytest.approx(found().metrics[f"{prefix}/ece"])
        assert dict(column.scores)["NLL"] == found().metrics[f"{prefix}/nll"]
        assert sum(column.counts) == 24


def test_bars_hold_the_metrics() -> None:
    bars = found().figures["test-accuracy-by-group"]
    assert isinstance(bars, Parts)
    shares = dict(zip(bars.names, bars.measures[0].of_parts, strict=True))
    assert shares == {name: found().metrics[f"test/accuracy/group/{name}"] for name in "kl"}
    assert set(found().figures) == {"test-reliability", "test-accuracy-by-class", "test-accuracy-by-group"}


def test_classes_and_groups_without_examples_are_left_out() -> None:
    test = subject().splits.test
    few = test.label != 2
    data = replace(subject().splits, test=Arrays(test.x[few], test.label[few], torch.zeros(int(few.sum())).long()))
    found = Clean().evaluate(replace(subject(), splits=data))
    assert {name for name in found.metrics if "/class/" in name and "scaled" not in name} == {
        "test/accuracy/class/a",
        "test/accuracy/class/b",
    }
    assert found.metrics["test/worst_group_accuracy"] == found.metrics["test/accuracy/group/k"]
    assert "test/accuracy/group/l" not in found.metrics


def test_a_shift_has_metrics_and_figures_of_its_own() -> None:
    data = replace(subject().splits, shifts={"snow": subject().splits.val})
    found = Clean().evaluate(replace(subject(), splits=data))
    assert found.metrics["snow/accuracy"] == pytest.approx(
        float(predict(subject().model, data.val, Ranks()).right.double().mean())
    )
    assert "snow-reliability" in found.figures


def test_of_shifts_the_mean_of_every_score_is_told() -> None:
    data = replace(subject().splits, shifts={"snow": subject().splits.val, "rain": subject().splits.calibration})
    found = Clean().evaluate(replace(subject(), splits=data))
    for name in ("accuracy", "scaled/nll", "scaled/ece", "confidence"):
        mean = (found.metrics[f"snow/{name}"] + found.metrics[f"rain/{name}"]) / 2
        assert found.metrics[f"shifts/{name}"] == pytest.approx(mean)
    told = {name.rpartition("/")[2] for name in found.metrics if name.startswith("shifts/")}
    assert told == SCORES
    bars = found.figures["shifts-accuracy-by-shift"]
    assert isinstance(bars, Parts)
    assert (bars.names, bars.counts) == (("snow", "rain"), (24, 24))
    assert bars.measures[0].of_parts == (found.metrics["snow/accuracy"], found.metrics["rain/accuracy"])
    assert not any(name.startswith("shifts") for name in Clean().evaluate(subject()).metrics)


def test_rows_whose_class_a_calibrator_changes_are_counted() -> None:
    class Turned(Calibrator):
        keeps_prediction: ClassVar[bool] = False

        def forward(self, logits: torch.Tensor) -> torch.Tensor:
            return torch.where(torch.arange(len(logits))[:, None] < 6, logits.roll(1, 1), logits)

    metrics = Clean().evaluate(replace(subject(), calibrators={"turned": Turned(), **subject().calibrators})).metrics
    assert metrics["test/turned/changed_predictions"] == 6 / 24
    assert "test/scaled/changed_predictions" not in metrics
