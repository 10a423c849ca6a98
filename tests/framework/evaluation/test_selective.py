import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from gpus import needs_gpus
from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.data.dataset import Arrays, Splits
from poise.distributed import Ranks, current_ranks
from poise.evaluation.selective import Selective
from poise.evaluator import Findings, Subject
from poise.figures.selective import RiskCoverage
from poise.metrics import AreaUnderGeneralisedRiskCoverage, AreaUnderRiskCoverage, CoverageAtRisk
from poise.models.classifier import Classifier
from poise.predictions import predict
from poise.report import render
from poise_recipes import TemperatureScaling
from ranks import Pair

TARGET = 0.1


def rows(count: int, seed: int, spread: float = 0.65) -> Arrays:
    """Points around the corners of a triangle: right answers are less sure where the corners' clouds meet."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])
    label = torch.arange(count) % 3
    return Arrays(corners[label] + spread * torch.randn(count, 2, generator=generator), label)


@cache
def data() -> Splits:
    return Splits(
        rows(90, 0),
        rows(30, 1),
        rows(600, 2),
        rows(300, 3),
        3,
        shifts={"wider": rows(300, 4, 1.5)},
        valid_range=None,
        kind="tabular",
    )


@cache
def subject() -> Subject:
    head = nn.Linear(2, 3, bias=False).double()
    with torch.no_grad():
        head.weight.copy_(3 * torch.tensor([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]]))
    model = Classifier(nn.Identity(), head)
    scaled = TemperatureScaling().fit(predict(model, data().calibration, Ranks()))
    return Subject(model, data(), Threat("linf", 0.1, None, None), {"scaled": scaled})


@cache
def found() -> Findings:
    return Selective(target=TARGET).evaluate(subject())


@pytest.mark.parametrize("prefix", ["test", "test/scaled", "wider", "wider/scaled"])
def test_areas_and_coverage_in_hindsight_are_those_of_the_metrics(prefix: str) -> None:
    split, _, alias = prefix.partition("/")
    seen = predict(subject().model, dict(subject().tests())[split], Ranks())
    logits = subject().calibrators[alias](seen.logits) if alias else seen.logits
    for name, metric in {
        "aurc": AreaUnderRiskCoverage(),
        "augrc": AreaUnderGeneralisedRiskCoverage(),
        "coverage_at_risk": CoverageAtRisk(TARGET),
    }.items():
        metric.update(logits, seen.label)
        assert found().metrics[f"{prefix}/selective/msp/{name}"] == pytest.approx(float(metric.compute()))


def test_the_threshold_is_chosen_on_the_calibration_split_and_kept() -> None:
    held_out, test = (predict(subject().model, split, Ranks()) for split in (data().calibration, data().test))
    metrics = found().metrics
    for seen, most in ((held_out, TARGET), (test, 1.0)):
        given = seen.logits.double().softmax(1).amax(1) > metrics["test/selective/msp/threshold"]
        risk = float((~seen.right[given]).double().mean())
        assert 0 < risk < most
    assert metrics["test/selective/msp/coverage"] == pytest.approx(float(given.double().mean()))
    assert metrics["test/selective/msp/risk"] == pytest.approx(risk)
    assert metrics["test/selective/msp/risk_bound"] <= TARGET
    assert metrics["test/selective/msp/coverage"] < metrics["test/selective/msp/coverage_at_risk"]
    cells = dict(
        zip(found().tables["test-selective"].headings[1:], found().tables["test-selective"].rows[0].cells, strict=True)
    )
    assert cells["given where"] == f"> {metrics['test/selective/msp/threshold']:.4f}"


def test_on_a_shift_the_threshold_is_the_same_and_nothing_is_promised() -> None:
    metrics = found().metrics
    assert metrics["wider/selective/msp/risk"] > metrics["test/selective/msp/risk"]
    assert not any(name.startswith("wider") and name.endswith("risk_bound") for name in metrics)
    table = found().tables["test-selective-shifts"]
    assert [row.name for row in table.rows] == ["test", "wider"]
    cells = dict(zip(table.headings[1:], table.rows[1].cells, strict=True))
    assert cells["msp: risk"] == f"{100 * metrics['wider/selective/msp/risk']:.2f} %"


def test_answers_that_the_nearest_centroid_agrees_with_are_told() -> None:
    train, test = (predict(subject().model, split, Ranks()) for split in (data().train, data().test))
    assert train.features is not None
    assert test.features is not None
    means = torch.stack([train.features[train.label == c].mean(0) for c in range(3)])
    agrees = torch.cdist(test.features, means).argmin(1) == test.logits.argmax(1)
    metrics = found().metrics
    assert metrics["test/selective/centroid/coverage_where_agreed"] == pytest.approx(float(agrees.double().mean()))
    assert metrics["test/selective/centroid/risk_where_agreed"] == pytest.approx(
        float((~test.right[agrees]).double().mean())
    )


def test_the_figure_and_the_table_have_a_line_for_each_score() -> None:
    drawing = found().figures["test-selective"]
    assert isinstance(drawing, RiskCoverage)
    names = ["msp", "msp, scaled", "centroid"]
    assert [curve.name for curve in drawing.curves] == names
    assert [row.name for row in found().tables["test-selective"].rows] == [*names, "centroid agrees"]
    coverage, risk = (found().metrics[f"test/selective/msp/{name}"] for name in ("coverage", "risk"))
    table = found().tables["test-selective"]
    shown = dict(zip(table.headings[1:], table.rows[0].cells, strict=True))
    assert shown["risk"] == f"{100 * risk:.2f} % of {round(300 * coverage)}"
    assert "with a probability of 95 %" in table.note
    msp = drawing.curves[0]
    assert msp.coverage[-1] == 1
    assert msp.risk[-1] == pytest.approx(float((~predict(subject().model, data().test, Ranks()).right).double().mean()))
    assert msp.chosen == tuple(found().metrics[f"test/selective/msp/{name}"] for name in ("coverage", "risk"))
    assert found().notes == (
        "For msp; centroid the threshold promises a risk of 10 % at most, each with a probability of 95 %, by 600 "
        "calibration examples.",
        "For msp, scaled a threshold is chosen by the same rule, and promises nothing: calibrators were fitted to the "
        "examples that choose it, and may look surer on these than on others.",
    )
    assert "selective/" not in render(found().metrics, ["scaled"], found().notes, found().tables)
    assert not found().doubts


def test_scores_and_areas_are_explained() -> None:
    assert set(found().meanings) == {"msp", "centroid", "centroid agrees", "AURC", "AUGRC"}
    assert all(found().meanings.values())


def test_a_promise_that_test_breaks_is_a_warning() -> None:
    changed = replace(subject(), splits=replace(data(), test=data().shifts["wider"]))
    doubt, _ = Selective(target=TARGET).evaluate(changed).doubts
    assert doubt.startswith("on test the risk at the chosen thresholds is msp ")
    assert doubt.endswith("over the 10 % promised: test is not like the calibration split")


class ByHeart(Calibrator):
    """Sure of the labels that it was fitted to, and of wrong ones for other rows."""

    keeps_prediction = False

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "ByHeart":
        self.known = dict(zip(map(tuple, held_out.logits.tolist()), held_out.label.tolist(), strict=True))
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        told = [self.known.get(tuple(row), row.index(min(row))) for row in logits.tolist()]
        return (10 * nn.functional.one_hot(torch.tensor(told), logits.shape[1]).to(logits)).log_softmax(1)


def test_what_a_calibrator_learnt_by_heart_is_no_promise_and_no_reason_to_doubt_test() -> None:
    by_heart = ByHeart().fit(predict(subject().model, data().calibration, Ranks()))
    found = Selective(target=TARGET).evaluate(replace(subject(), calibrators={"by_heart": by_heart}))
    (doubt,) = found.doubts
    assert doubt.startswith("on test the risk at the chosen thresholds is msp, by_heart ")
    assert doubt.endswith(
        "over the 10 % asked for: calibrators were fitted to the examples that choose it, and may look surer on these "
        "than on others"
    )
    assert "test/selective/msp/risk_bound" in found.metrics
    assert "test/by_heart/selective/msp/risk_bound" not in found.metrics


def test_without_calibration_examples_or_features_the_rest_is_told() -> None:
    bare = replace(data(), train=data().train.none(), val=data().val.none(), calibration=data().calibration.none())
    alone = Selective(target=TARGET).evaluate(replace(subject(), splits=bare, calibrators={}))
    assert {name for name in alone.metrics if name.startswith("test/")} == {
        f"test/selective/msp/{name}" for name in ("aurc", "augrc", "coverage_at_risk")
    }
    assert alone.notes == (
        "Without class centroids: the data have too few training examples.",
        "No threshold was chosen for a risk target: the data have no calibration examples.",
    )
    assert "test-selective-shifts" not in alone.tables


def test_where_all_answers_are_given_there_is_no_threshold() -> None:
    sure = replace(data(), calibration=rows(200, 2, 0.1))
    found = Selective(target=TARGET).evaluate(replace(subject(), splits=sure, calibrators={}))
    for score in ("msp", "centroid"):
        assert found.metrics[f"test/selective/{score}/coverage"] == 1
        assert found.metrics[f"test/selective/{score}/risk_bound"] <= TARGET
        assert f"test/selective/{score}/threshold" not in found.metrics


def test_too_few_calibration_examples_promise_nothing() -> None:
    few = replace(data(), calibration=rows(20, 2))
    found = Selective(target=0.01).evaluate(replace(subject(), splits=few))
    assert found.notes == (
        "For msp; msp, scaled; centroid no threshold promises a risk of 1 % at most, so no answer is given: by Clopper "
        "and Pearson's bound at 0.05/20 (20 thresholds are tried) that takes 597 calibration examples, none of them "
        "wrong, and there are 20.",
    )
    assert found.metrics["test/selective/msp/coverage"] == 0
    assert not any("of" in cell for row in found.tables["test-selective"].rows[:-1] for cell in row.cells)
    assert not {f"test/selective/msp/{name}" for name in ("risk", "threshold", "risk_bound")} & found.metrics.keys()


def test_how_many_calibration_examples_would_do_is_told() -> None:
    few = replace(data(), calibration=rows(120, 2))
    notes = Selective(target=0.05).evaluate(replace(subject(), splits=few, calibrators={})).notes
    assert notes == tuple(
        f"For {score} no threshold promises a risk of 5 % at most, so no answer is given: 120 calibration examples are "
        f"too few where errors are as frequent as among them, and about {enough} would do, by Clopper and Pearson's "
        "bound at 0.05/20 (20 thresholds are tried)."
        for score, enough in (("msp", 240), ("centroid", 960))
    )
    mixed = replace(data(), calibration=Arrays(rows(600, 2).x, torch.arange(600) % 2))
    hopeless = Selective(target=0.05).evaluate(replace(subject(), splits=mixed, calibrators={})).notes[0]
    assert "too many of the surest of 600 calibration examples are wrong, and more would not help" in hopeless


def test_a_class_without_training_examples_is_withheld_first() -> None:
    train = data().train.rows(data().train.label < 2)
    some = replace(subject(), splits=replace(data(), train=train), calibrators={})
    found = Selective(target=TARGET).evaluate(some)
    assert found.notes[0] == (
        "1 of 3 classes have none of the 60 training examples that centroids are of: by centroid, answers of these "
        "classes are withheld first."
    )
    agreed = predict(subject().model, data().test, Ranks()).logits.argmax(1) != 2
    assert found.metrics["test/selective/centroid/coverage_where_agreed"] <= float(agreed.double().mean())
    alone = Selective(target=TARGET, train_examples=1).evaluate(some)
    assert alone.notes[0] == (
        "Without class centroids: class centroids need examples of two classes or more: these are all of one."
    )
    assert not any("centroid" in name for name in alone.metrics)


def numbers(**changes: Any) -> dict[str, float]:
    """On the ranks that there are."""
    return Selective(target=TARGET).evaluate(replace(subject(), ranks=current_ranks(), **changes)).metrics


def test_neither_ranks_nor_batch_size_change_anything(pair: Pair) -> None:
    for result in (*pair.run(numbers), numbers(batch_size=7)):
        assert result == pytest.approx(found().metrics, abs=1e-9)


@needs_gpus()
def test_a_gpu_changes_nothing() -> None:
    there = replace(subject(), model=copy.deepcopy(subject().model).cuda())
    assert Selective(target=TARGET).evaluate(there).metrics == pytest.approx(found().metrics, abs=1e-6)
