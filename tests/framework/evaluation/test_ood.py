import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from gpus import needs_gpus
from poise.attacks.threat import Threat
from poise.data.dataset import Arrays, Splits
from poise.distributed import Ranks, current_ranks
from poise.errors import UserError
from poise.evaluation.ood import Ood
from poise.evaluator import Findings, Subject
from poise.figures.detection import Roc
from poise.models.classifier import Classifier
from poise.predictions import predict
from poise.report import render
from poise_recipes import TemperatureScaling
from ranks import Pair
from small_runs import network, rows, splits

SCORES = {"msp", "entropy", "max_logit", "energy", "mahalanobis", "knn"}
METRICS = {"auroc", "aupr_out", "aupr_in", "fpr_at_95_id_recall", "fpr_at_95_ood_recall"}


def stranger(count: int = 30) -> Arrays:
    """Pictures of noise, brighter than those of the small data."""
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(9))
    return Arrays(x, torch.full((count,), -1))


@cache
def data() -> Splits:
    return splits(ood={"noise": stranger()}, shifts={"snow": rows(24, 5)})


@cache
def subject() -> Subject:
    model = Classifier.wrap(network(), data().num_classes).double()
    scaled = TemperatureScaling().fit(predict(model, data().calibration, Ranks()))
    return Subject(model, data(), Threat("linf", 8 / 255), {"scaled": scaled})


@cache
def found() -> Findings:
    return Ood(neighbours=5).evaluate(subject())


def test_every_score_is_told_of_each_question_and_those_of_probabilities_after_calibration_too() -> None:
    for where in ("ood/noise", "shift/snow", "failures"):
        assert {name for name in found().metrics if name.startswith(f"test/{where}/") and "confiden" not in name} == {
            f"test/{where}/{score}/{metric}" for score in SCORES for metric in METRICS
        }
        after = {
            name for name in found().metrics if name.startswith(f"test/scaled/{where}/") and "confiden" not in name
        }
        assert after == {f"test/scaled/{where}/{score}/{metric}" for score in ("msp", "entropy") for metric in METRICS}


def test_areas_are_those_of_the_predictions() -> None:
    test, noise = (predict(subject().model, split, Ranks()) for split in (data().test, stranger()))
    for name, strangeness in {
        "msp": lambda seen: -seen.logits.double().softmax(1).amax(1),
        "energy": lambda seen: -seen.logits.double().exp().sum(1),
        "max_logit": lambda seen: -seen.logits.double().amax(1),
    }.items():
        label = [0] * 24 + [1] * 30
        area = roc_auc_score(label, torch.cat([strangeness(test), strangeness(noise)]))
        assert found().metrics[f"test/ood/noise/{name}/auroc"] == pytest.approx(area)
        assert found().metrics[f"test/failures/{name}/auroc"] == pytest.approx(
            roc_auc_score(~test.right, strangeness(test))
        )


def test_confidence_on_other_things_is_told_before_and_after_calibration() -> None:
    noise = predict(subject().model, stranger(), Ranks()).logits
    for prefix, logits in (("test", noise), ("test/scaled", subject().calibrators["scaled"](noise))):
        confidence = logits.double().softmax(1).amax(1)
        assert found().metrics[f"{prefix}/ood/noise/confidence"] == pytest.approx(float(confidence.mean()))
        assert found().metrics[f"{prefix}/ood/noise/confident"] == pytest.approx(
            float((confidence > 0.9).double().mean())
        )


def test_features_tell_noise_from_pictures_like_those_of_the_training_split() -> None:
    assert found().metrics["test/ood/noise/mahalanobis/auroc"] > 0.8
    assert found().metrics["test/ood/noise/knn/auroc"] > 0.8
    assert found().metrics["test/shift/snow/mahalanobis/auroc"] < 0.7  # drawn as the test split is


def test_tables_and_the_figure_hold_the_three_questions_apart() -> None:
    roc = found().figures["test-ood"]
    assert isinstance(roc, Roc)
    assert [(panel.kind, panel.name) for panel in roc.panels] == [
        ("semantic shift", "noise"),
        ("failures", ""),
        ("covariate shift", "snow"),
    ]
    assert [next(iter(panel.curves)) for panel in roc.panels] == ["msp"] * 3
    assert (roc.panels[0].usual, roc.panels[0].strange) == (24, 30)
    assert roc.panels[0].curves["knn"].auroc == found().metrics["test/ood/noise/knn/auroc"]
    tables = found().tables
    assert list(tables) == ["test-ood-noise", "test-failures", "test-shift", "test-confidence-on-ood"]
    assert {row.name for row in tables["test-ood-noise"].rows} == SCORES | {"msp, scaled", "entropy, scaled"}
    (shift,) = tables["test-shift"].rows
    cells = dict(zip(tables["test-shift"].headings[1:], shift.cells, strict=True))
    right = float(predict(subject().model, rows(24, 5), Ranks()).right.double().mean())
    passing = found().metrics["test/shift/snow/msp/fpr_at_95_id_recall"]
    assert cells["accuracy"] == f"{100 * right:.1f}"
    assert cells["msp"] == f"{100 * (1 - passing):.1f}"


class Turned(TemperatureScaling):
    """Changes every answer."""

    keeps_prediction = False

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        return super().forward(logits).roll(1, 1)


def test_a_calibrator_that_changes_answers_has_failures_of_its_own() -> None:
    turned = Turned().fit(predict(subject().model, data().calibration, Ranks()))
    changed = Ood(neighbours=5).evaluate(replace(subject(), calibrators={**subject().calibrators, "turned": turned}))
    seen = predict(subject().model, data().test, Ranks())
    counts = {row.name: row.cells[0] for row in changed.tables["test-failures"].rows}
    right, after = (int((given.argmax(1) == seen.label).sum()) for given in (seen.logits, turned(seen.logits)))
    assert counts["msp"] == counts["msp, scaled"] == f"{right}/{24 - right}"
    assert counts["msp, turned"] == f"{after}/{24 - after}" != counts["msp"]
    assert "are not to be compared with the rest" in changed.tables["test-failures"].note
    assert "not to be compared" not in found().tables["test-failures"].note
    panel = changed.figures["test-ood"].panels[1]  # type: ignore[attr-defined]
    assert panel.told == f"{right} right (usual), {24 - right} wrong (strange)"


def test_scores_and_columns_are_explained() -> None:
    table = found().tables["test-failures"]
    names = {row.name.partition(",")[0] for row in table.rows} | set(table.headings[1:])
    assert set(found().meanings) == names
    assert all(found().meanings.values())


def test_the_report_has_them_once() -> None:
    text = render(found().metrics, ["scaled"], found().notes, found().tables)
    assert text.count("test, semantic shift, noise: 24 usual, 30 strange") == 1
    assert "ood/noise/msp" not in text
    assert "mahalanobis and knn (k = 5) are fitted to 68 training examples, not augmented." in text


def numbers(**changes: Any) -> dict[str, float]:
    """On the ranks that there are."""
    return Ood(neighbours=5).evaluate(replace(subject(), ranks=current_ranks(), **changes)).metrics


def test_neither_ranks_nor_batch_size_change_anything(pair: Pair) -> None:
    for result in (*pair.run(numbers), numbers(batch_size=7)):
        assert result == pytest.approx(found().metrics, abs=1e-9)


def test_of_many_training_examples_some_are_drawn_by_the_seed() -> None:
    some = Ood(neighbours=5, train_examples=20).evaluate(subject())
    assert "fitted to 20 training examples" in some.notes[0]
    assert some.metrics != found().metrics
    assert some.metrics == Ood(neighbours=5, train_examples=20).evaluate(subject()).metrics
    other = Ood(neighbours=5, train_examples=20).evaluate(replace(subject(), seed=1))
    assert other.metrics != some.metrics
    assert other.metrics["test/ood/noise/msp/auroc"] == some.metrics["test/ood/noise/msp/auroc"]


class Headless(nn.Module):
    """A network with no last linear layer to call its head."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = network()

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x).tanh()


def test_without_features_or_training_examples_the_logits_are_judged_alone() -> None:
    headless = Classifier(Headless(), nn.Identity())
    untrained = replace(data(), train=data().train.none(), val=data().val.none())
    for changed, why in (
        (replace(subject(), model=headless), "the model's head is not known, and so not its features either"),
        (replace(subject(), splits=untrained), "the data have too few training examples"),
    ):
        alone = Ood(neighbours=5).evaluate(changed)
        assert {name.split("/")[3] for name in alone.metrics if name.startswith("test/ood/noise/")} == {
            *(SCORES - {"mahalanobis", "knn"}),
            "confidence",
            "confident",
        }
        assert alone.notes[0] == f"Without mahalanobis and knn: {why}."


def test_what_is_no_number_counts_as_the_strangest_and_leaves_numbers() -> None:
    broken = network()
    with torch.no_grad():
        broken.classify.weight[1] = torch.nan
    changed = replace(subject(), model=Classifier(broken.features, broken.classify), calibrators={})
    every = Ood(neighbours=5).evaluate(changed)
    assert torch.isfinite(torch.tensor(list(every.metrics.values()))).all()
    assert every.metrics["test/ood/noise/msp/auroc"] == 0.5
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    assert (
        Ood(neighbours=5).evaluate(changed).notes[0]
        == "Without mahalanobis and knn: some features are NaN or infinite."
    )


def test_where_all_is_right_there_are_no_failures() -> None:
    sure = rows(24, 3)
    seen = predict(subject().model, sure, Ranks())
    right = replace(data(), test=Arrays(sure.x, seen.logits.argmax(1)))
    every = Ood(neighbours=5).evaluate(replace(subject(), splits=right))
    assert not any("/failures/" in name for name in every.metrics)
    assert "test-failures" not in every.tables
    assert "There are no failures on test to detect." in every.notes


def test_data_that_cannot_be_looked_at_so_are_refused() -> None:
    with pytest.raises(UserError, match="the data have no OOD set"):
        Ood().check(splits())
    with pytest.raises(UserError, match="neighbours=69 of 68 training examples: give 68 or fewer"):
        Ood(neighbours=69).check(data())
    Ood(neighbours=68).check(data())
    Ood().check(replace(data(), train=data().train.none(), val=data().val.none()))


@needs_gpus()
def test_a_gpu_changes_nothing() -> None:
    there = replace(subject(), model=copy.deepcopy(subject().model).cuda())
    assert Ood(neighbours=5).evaluate(there).metrics == pytest.approx(found().metrics, abs=1e-6)
