"""Calibration in full: numbers are those of the metrics, clean and attacked, of the parts and of the whole."""

import copy
from dataclasses import replace
from functools import cache

import pytest
import torch

from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.distributed import Ranks
from poise.errors import UserError
from poise.evaluation.calibration import Calibration
from poise.evaluator import Findings, Subject
from poise.figures.reliability_curves import ReliabilityCurves
from poise.metrics import (
    AreaUnderRiskCoverage,
    BrierTerms,
    CalibrationError,
    ClasswiseCalibrationError,
    SmoothCalibrationError,
)
from poise.metrics.base import LogitsMetric
from poise.models.classifier import Classifier
from poise.predictions import predict
from poise.robustness.left import left_by
from poise.scores import sheets
from poise_recipes import TemperatureScaling
from small_runs import network, splits

BINS, STEPS = 5, 3


@cache
def subject() -> Subject:
    data = splits()
    data = replace(data, shifts={"other": data.val})
    model = Classifier.wrap(network(), data.num_classes)
    scaled = TemperatureScaling().fit(predict(model, data.calibration, Ranks()))
    return Subject(model, data, Threat("linf", 8 / 255), {"scaled": scaled})


@cache
def found() -> Findings:
    return Calibration(bins=BINS, attacked=True, steps=STEPS, bootstrap=100).evaluate(subject())


def seen(source: str) -> Predictions:
    data = subject().splits.test
    if not source:
        return predict(subject().model, data, Ranks())
    return left_by(subject(), data, PGD(subject().threat, STEPS), torch.arange(len(data)), "").seen


@pytest.mark.parametrize("source", ["", "attacked_"])
@pytest.mark.parametrize("column", ["", "scaled/"])
def test_scores_are_those_of_the_metrics(source: str, column: str) -> None:
    told = seen(source)
    if column:
        told = replace(told, logits=subject().calibrators["scaled"](told.logits))
    measures: dict[str, LogitsMetric] = {
        "ece": CalibrationError(BINS),
        "smooth_ece": SmoothCalibrationError(),
        "aurc": AreaUnderRiskCoverage(),
        "brier_resolution": BrierTerms(3, BINS),
        "classwise_ece": ClasswiseCalibrationError(3, BINS),
    }
    own = {name: found().metrics[f"test/{column}{source}{name}"] for name in measures}
    for name, measure in measures.items():
        measure.update(told.logits, told.label)
        value = measure.compute()
        assert own[name] == pytest.approx(float(value[1] if name == "brier_resolution" else value))
    right, confidence = told.right.double().mean(), told.logits.double().softmax(1).amax(1).mean()
    assert found().metrics[f"test/{column}{source}confidence_gap"] == pytest.approx(float(confidence - right))


def test_parts_have_errors_of_their_own() -> None:
    told = seen("")
    group = subject().splits.test.group
    assert group is not None
    for place, name in enumerate("kl"):
        error = CalibrationError(BINS)
        error.update(told.logits[group == place], told.label[group == place])
        assert found().metrics[f"test/ece/group/{name}"] == pytest.approx(float(error.compute()))
    classes = [found().metrics[f"test/scaled/classwise_ece/class/{name}"] for name in "abc"]
    assert sum(classes) / 3 == pytest.approx(found().metrics["test/scaled/classwise_ece"])


def test_the_table_has_a_line_for_each_calibrator_and_a_column_for_each_source() -> None:
    table = found().tables["test-calibration"]
    assert table.headings == ("calibrator", "test", "test, attacked", "other", "other, attacked")
    assert [row.name for row in table.rows] == ["uncalibrated", "scaled"]
    metrics = found().metrics
    assert table.note.endswith("attacked: under PGD of 3 steps, linf, eps = 8/255")
    gap = 100 * metrics["test/scaled/attacked_confidence_gap"]
    assert table.rows[1].cells[1] == f"{metrics['test/scaled/attacked_ece']:.4f} ({gap:+.1f})"


def test_every_name_in_the_table_of_scores_is_explained() -> None:
    meanings = found().meanings
    for sheet in sheets(found().metrics, ["scaled"]):
        for row in [*sheet.scores().rows, *sheet.attacked().rows]:
            assert meanings[row.name.removeprefix("attacked_")]
    assert meanings["attacked_…"] == "The same under PGD of 3 steps, linf, eps = 8/255"
    assert "attacked_…" not in Calibration(bins=BINS, bootstrap=0).evaluate(subject()).meanings


def test_scores_have_intervals_where_they_are_asked_for() -> None:
    names = [row.name for row in found().tables["test-intervals"].rows]
    assert {"nll, uncalibrated", "nll, scaled"} <= set(names)
    assert "test-intervals" not in Calibration(bins=BINS, bootstrap=0).evaluate(subject()).tables
    with pytest.raises(UserError, match="bootstrap=99: 1 resample in 40 lies beyond each end"):
        Calibration(bootstrap=99)


def test_figures_show_all_sources() -> None:
    assert {"test-reliability", "test-attacked-reliability", "other-reliability"} <= found().figures.keys()
    curves = found().figures["test-calibration-curves"]
    assert isinstance(curves, ReliabilityCurves)
    whole = curves.draw()
    assert len(whole.axes) == 2
    assert [text.get_text() for text in whole.legends[0].get_texts()] == list(curves.sources)


def test_shifts_have_means_and_nothing_is_attacked_unless_asked() -> None:
    assert found().metrics["shifts/ece"] == found().metrics["other/ece"]
    plain = Calibration(bins=BINS, bootstrap=0).evaluate(subject())
    assert plain.metrics.items() <= found().metrics.items()
    assert not [name for name in plain.metrics if "attacked" in name]


def test_a_model_without_finite_probabilities_has_a_report_all_the_same() -> None:
    data = replace(subject().splits, shifts={})
    model = copy.deepcopy(subject().model)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    broken = Subject(model, data, Threat("linf", 8 / 255))
    findings = Calibration(bins=BINS, bootstrap=100).evaluate(broken)
    assert "test/ece" not in findings.metrics
    assert all(drawing.draw() for drawing in findings.figures.values())
