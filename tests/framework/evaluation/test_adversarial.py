from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from poise.attacks.autoattack import AutoAttack
from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.attacks.work import counted
from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.distributed import Ranks, current_ranks
from poise.evaluation.adversarial import Adversarial
from poise.evaluation.clean import Clean
from poise.evaluator import Findings, Subject
from poise.figures.parts import Parts
from poise.figures.radius import Radius
from poise.figures.reliability import Reliability
from poise.models.classifier import Classifier
from poise.modes import in_mode
from poise.predictions import predict
from poise.scores import sheets
from ranks import Pair
from small_runs import network, splits

THREAT = Threat("linf", 0.1)
STEPS = 3


class Turned(Calibrator):
    """Changes every prediction: the least logit becomes the greatest."""

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> Calibrator:
        return self

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return -logits


@cache
def subject() -> Subject:
    data = splits()
    model = Classifier.wrap(network(), data.num_classes)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # of the dropout
        for _ in range(40):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(data.train.x), data.train.label).backward()
            optimizer.step()
    return Subject(model, data, THREAT, {"turned": Turned()}, seed=3)


def accuracy_at(threat: Threat, step_size: float | None = None) -> float:
    test = subject().splits.test
    with in_mode(subject().model, "eval"):
        x = PGD(threat, STEPS, step_size)(subject().model, test.x, test.label, seed=3)
        return float((subject().model(x).argmax(1) == test.label).double().mean())


def test_accuracy_is_that_of_the_attack_as_a_whole_and_by_radius() -> None:
    found = Adversarial(steps=STEPS, radii=(0.5, 2.0)).evaluate(subject()).metrics
    clean = float(predict(subject().model, subject().splits.test, Ranks()).right.double().mean())
    prefix = "test/robust_accuracy/pgd-3"
    assert found[prefix] == pytest.approx(accuracy_at(THREAT))
    curve = {name.removeprefix(f"{prefix}/radius/"): v for name, v in found.items() if f"{prefix}/radius/" in name}
    assert curve == {
        "0": pytest.approx(clean),
        "0.5": pytest.approx(accuracy_at(replace(THREAT, eps=0.05))),
        "1": found[prefix],
        "2": pytest.approx(accuracy_at(replace(THREAT, eps=0.2))),
    }
    assert clean > 0.5 > curve["2"]


def test_a_step_size_is_in_proportion_to_the_radius() -> None:
    found = Adversarial(steps=STEPS, step_size=0.02, radii=(2.0,)).evaluate(subject()).metrics
    assert found["test/robust_accuracy/pgd-3"] == pytest.approx(accuracy_at(THREAT, 0.02))
    assert found["test/robust_accuracy/pgd-3/radius/2"] == pytest.approx(accuracy_at(replace(THREAT, eps=0.2), 0.04))


def test_classes_and_groups_are_attacked_too_and_the_worst_named() -> None:
    found = Adversarial(steps=STEPS, radii=()).evaluate(subject())
    for kind, names in (("class", "abc"), ("group", "kl")):
        shares = [found.metrics[f"test/robust_accuracy/pgd-3/{kind}/{name}"] for name in names]
        assert found.metrics[f"test/worst_{kind}_robust_accuracy/pgd-3"] == min(shares)
        bars = found.figures[f"test-pgd-3-accuracy-by-{kind}"]
        assert isinstance(bars, Parts)
        assert [measure.name for measure in bars.measures] == ["clean", "pgd-3"]
        assert list(bars.measures[1].of_parts) == shares
    assert found.meanings["robust_accuracy/pgd-3"].endswith(f"stay so under pgd-3, {THREAT}")
    rows = {row.name.partition(" ")[0] for sheet in sheets(found.metrics, ["turned"]) for row in sheet.scores().rows}
    assert found.meanings.keys() == rows - {"accuracy"}
    assert not [name for name in [*found.metrics, *found.figures] if "/radius/" in name or "by-radius" in name]


def test_the_figure_is_of_the_curve_and_of_each_calibrators() -> None:
    found = Adversarial(steps=STEPS, radii=(0.5,)).evaluate(subject())
    curve = found.figures["test-pgd-3-accuracy-by-radius"]
    assert isinstance(curve, Radius)
    assert curve.radii == pytest.approx((0, 0.05, 0.1))
    for (name, accuracy), prefix in zip(curve.columns, ("test", "test/turned"), strict=True):
        assert name == ("uncalibrated" if prefix == "test" else "turned")
        assert list(accuracy) == [
            found.metrics[f"{prefix}/robust_accuracy/pgd-3/radius/{radius}"] for radius in ("0", "0.5", "1")
        ]


def test_the_curve_is_of_some_examples_which_are_attacked_as_they_are_in_the_whole() -> None:
    one = Adversarial(steps=STEPS, radii=(0.5,), curve_examples=6).evaluate(subject())
    test = subject().splits.test
    some = torch.arange(6) * 4
    with in_mode(subject().model, "eval"):
        x = PGD(replace(THREAT, eps=0.05), STEPS)(subject().model, test.x[some], test.label[some], seed=3, index=some)
        right = (subject().model(x).argmax(1) == test.label[some]).double()
    assert one.metrics["test/robust_accuracy/pgd-3/radius/0.5"] == pytest.approx(float(right.mean()))
    assert one.metrics["test/robust_accuracy/pgd-3"] == pytest.approx(accuracy_at(THREAT))
    curve = one.figures["test-pgd-3-accuracy-by-radius"]
    assert isinstance(curve, Radius)
    assert curve.examples == 6


@pytest.mark.parametrize("threat", [Threat("linf", 0.6), Threat("l2", 5.0)])
def test_radii_beyond_the_range_of_the_data_are_left_out(threat: Threat) -> None:
    found = Adversarial(steps=1, radii=(0.5, 1.0, 2.0)).evaluate(replace(subject(), threat=threat)).metrics
    curve = [name.rpartition("/")[2] for name in found if name.startswith("test/robust_accuracy/pgd-1/radius/")]
    assert curve == ["0", "0.5", "1"]


def test_two_attacks_give_metrics_and_figures_of_their_own() -> None:
    weak, strong = (Adversarial(steps=steps, radii=(0.5,)).evaluate(subject()) for steps in (1, 3))
    shared = weak.metrics.keys() & strong.metrics.keys()
    assert {name.rpartition("/")[2] for name in shared} == {"accuracy"}  # on clean inputs, the same
    assert all(weak.metrics[name] == strong.metrics[name] for name in shared)
    assert not weak.figures.keys() & strong.figures.keys()


def test_a_threat_without_a_radius_has_no_curve() -> None:
    found = Adversarial(steps=1).evaluate(replace(subject(), threat=Threat("linf", 0.0)))
    assert found.metrics["test/robust_accuracy/pgd-1"] == pytest.approx(accuracy_at(Threat("linf", 0.0)))
    assert not [name for name in [*found.metrics, *found.figures] if "/radius/" in name or "by-radius" in name]


def test_the_cost_is_told() -> None:
    found = Adversarial(steps=STEPS, radii=()).evaluate(subject())
    clean = found.metrics["test/accuracy"]  # what is wrong as it is has not to be attacked
    assert found.metrics["test/attack_passes/pgd-3/gradient"] == pytest.approx(STEPS * clean)
    table = found.tables["test-attacks"]
    assert [row.name for row in table.rows] == ["pgd-3"]
    assert found.times["test/attack_milliseconds/pgd-3"] == pytest.approx(float(table.rows[0].cells[-1]), rel=0.01)
    assert list(found.times) == ["test/attack_milliseconds/pgd-3"]
    assert found.numbers == found.metrics | found.times
    assert not found.metrics.keys() & found.times.keys()  # in which two runs alike would differ


def test_confidence_under_attack_is_told_before_and_after_calibrators() -> None:
    found = Adversarial(steps=STEPS, radii=()).evaluate(subject()).metrics
    test = subject().splits.test
    with in_mode(subject().model, "eval"):
        logits = subject().model(PGD(THREAT, STEPS)(subject().model, test.x, test.label, seed=3)).detach()
    assert found["test/robust_nll/pgd-3"] == pytest.approx(float(cross_entropy(logits, test.label)), rel=1e-4)
    assert found["test/turned/robust_nll/pgd-3"] == pytest.approx(float(cross_entropy(-logits, test.label)), rel=1e-4)
    assert 0 < found["test/robust_ece/pgd-3"] < 1


def test_a_look_is_called_one_and_checked() -> None:
    found = Adversarial(steps=STEPS, radii=()).evaluate(subject())
    (note,) = found.notes
    assert note.startswith("On test pgd-3 alone was run (version=fast): a look")
    checked = [row.name.partition(":")[0] for row in found.tables["test-pgd-3-honesty"].rows]
    assert {f"test/honesty/pgd-3/{name}" for name in [*checked, "flagged"]} <= found.metrics.keys()
    assert found.metrics["test/honesty/pgd-3/flagged"] == len(found.doubts) == 0


class Stopped(Exception):
    """What ends an evaluation halfway."""


def wide() -> Subject:
    """A subject whose every example AutoAttack's first attacks break: the last takes thousands of passes."""
    return replace(subject(), threat=Threat("linf", 0.3))


def attacked_by_all(batch_size: int = 256) -> Findings:
    here = replace(wide(), ranks=current_ranks(), batch_size=batch_size)
    return Adversarial("standard", steps=1, radii=(), check_examples=2).evaluate(here)


@cache
def alone() -> Findings:
    return attacked_by_all()


def test_autoattack_is_run_on_top_and_told_attack_by_attack() -> None:
    found = alone()
    test = subject().splits.test
    verdict = AutoAttack(Threat("linf", 0.3)).run(subject().model, test.x, test.label, seed=3)
    name = "test/robust_accuracy/autoattack"
    assert found.metrics[name] == pytest.approx(float(verdict.right.double().mean()))
    attacks = list(verdict.work)
    for attack in attacks:
        assert found.metrics[f"{name}/{attack}"] == pytest.approx(float(verdict.robust[attack].double().mean()))
    assert found.metrics[name] == found.metrics[f"{name}/{attacks[-1]}"] < found.metrics["test/accuracy"]
    assert {f"{name}/class/a", f"{name}/group/k", "test/worst_class_robust_accuracy/autoattack"} <= found.metrics.keys()
    assert {"test/robust_ece/autoattack", "test/turned/robust_nll/autoattack"} <= found.metrics.keys()
    for attack, work in verdict.work.items():
        prefix = f"test/attack_passes/autoattack/{attack}"
        assert found.metrics[f"{prefix}/forward"] == pytest.approx(work.forwards / len(test))
        assert found.metrics[f"{prefix}/gradient"] == pytest.approx(work.backwards / len(test))
    passes = sum(work.backwards for work in verdict.work.values()) / len(test)
    assert found.metrics["test/attack_passes/autoattack/gradient"] == pytest.approx(passes)
    milliseconds = [found.times[f"test/attack_milliseconds/autoattack/{attack}"] for attack in attacks]
    assert found.times["test/attack_milliseconds/autoattack"] == pytest.approx(sum(milliseconds))
    rows = [row.name for row in found.tables["test-attacks"].rows]
    assert rows == ["pgd-1", *(f"… {attack}" for attack in attacks), "autoattack"]
    assert found.notes[-1] == "On test pgd-1 was run, and AutoAttack standard."
    assert found.notes[0].startswith("On test autoattack breaks ")


def test_the_verdict_depends_neither_on_ranks_nor_on_the_batch_size(pair: Pair) -> None:
    found = alone().metrics
    small = attacked_by_all(batch_size=5).metrics
    assert small == pytest.approx(found, abs=1e-5)
    for own in pair.run(attacked_by_all):
        assert own.metrics == pytest.approx(found, abs=1e-5)


def test_one_that_was_stopped_goes_on_and_leaves_nothing_behind(tmp_path: Path) -> None:
    kept = tmp_path / "attacks"
    told: list[str] = []

    def stopping(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        told.append(title)
        if title.startswith("fab"):
            raise Stopped
        return nullcontext(lambda done: None)

    evaluator = Adversarial("standard", steps=1, radii=(), check_examples=2)
    with pytest.raises(Stopped):
        evaluator.evaluate(replace(wide(), kept=kept, progress=stopping))
    assert told[:2] == ["attack test", "apgd-ce on test"]
    assert list(kept.rglob("apgd-ce-*.safetensors"))
    with counted(subject().model) as work:
        found = evaluator.evaluate(replace(wide(), kept=kept)).metrics
    assert found == alone().metrics
    assert work.backwards < 24 * found["test/attack_passes/autoattack/gradient"]  # what was kept was not done again
    assert not kept.exists()


def found_by_all() -> tuple[dict[str, float], tuple[int, ...]]:
    """What both evaluators find on the ranks that there are, and the examples in the bins of the diagram."""
    here = replace(subject(), ranks=current_ranks())
    evaluators = (Clean(bins=4), Adversarial(steps=STEPS, radii=(0.5,), curve_examples=1))
    found = Findings.merged(evaluator.evaluate(here) for evaluator in evaluators)
    diagram = found.figures["test-reliability"]
    assert isinstance(diagram, Reliability)
    return found.metrics, diagram.columns[0].counts


def test_two_ranks_find_what_one_finds(pair: Pair) -> None:
    metrics, counts = found_by_all()
    of_examples = {name for name in metrics if "/radius/" in name}  # two ranks cannot share one example
    for own, own_counts in pair.run(found_by_all):
        assert own_counts == counts
        assert list(own) == list(metrics)
        for name in metrics.keys() - of_examples:
            assert own[name] == pytest.approx(metrics[name], abs=1e-5), name


def test_shifts_are_attacked_where_that_is_asked() -> None:
    data = replace(subject().splits, shifts={"snow": subject().splits.val, "rain": subject().splits.calibration})
    shifted = replace(subject(), splits=data)
    found = Adversarial(steps=STEPS, radii=(), shifts=True).evaluate(shifted).metrics
    name = "robust_accuracy/pgd-3"
    assert found[f"shifts/{name}"] == pytest.approx((found[f"snow/{name}"] + found[f"rain/{name}"]) / 2)
    assert set(Adversarial(steps=STEPS, radii=()).evaluate(shifted).metrics) == {
        m for m in found if m.startswith("test/")
    }
