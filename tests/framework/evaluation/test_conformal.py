from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from poise.attacks.draws import Draws
from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.calibration import refitted
from poise.conformal.rules import Held, rules
from poise.data.dataset import Arrays, Splits
from poise.distributed import Ranks, current_ranks
from poise.errors import UserError
from poise.evaluation.conformal import Conformal
from poise.evaluation.plain_sets import Halves, PlainSets
from poise.evaluation.smoothed_sets import Smoothing
from poise.evaluator import Findings, Subject
from poise.figures.set_sizes import SetSizes
from poise.models.classifier import Classifier
from poise.predictions import predict
from poise_recipes import TemperatureScaling
from ranks import Pair
from smoothed import Linear

CLASSES, FEATURES, SPREAD = 4, 6, 0.45
CALIBRATION, TESTS = 600, 400
SETTINGS: dict[str, Any] = {
    "attacked": True,
    "steps": 4,
    "attacked_examples": 200,
    "smoothed_examples": 100,
    "copies": 256,
    "attack_copies": 8,
}


def rows(count: int, seed: int, shift: float = 0.0) -> Arrays:
    """Points around a corner for each class, so near that some are on the side of another."""
    keyed = torch.Generator().manual_seed(seed)
    label = torch.randint(CLASSES, (count,), generator=keyed)
    centre = torch.eye(CLASSES, FEATURES)[label]
    return Arrays(centre + shift + (SPREAD + shift) * torch.randn(count, FEATURES, generator=keyed), label)


@cache
def subject() -> Subject:
    """The best classifier of these points, its logits three times as large as is right, and what makes up for it."""
    weight = torch.eye(CLASSES, FEATURES) * 3 / SPREAD**2
    model = Classifier(Linear(weight, torch.zeros(CLASSES)), torch.nn.Identity())
    parts: dict[str, Any] = {
        "train": rows(20, 0),
        "val": rows(20, 1),
        "calibration": rows(CALIBRATION, 2),
        "test": rows(TESTS, 3),
    }
    shifts = {"blurred": rows(200, 4, shift=0.2)}
    data = Splits(**parts, num_classes=CLASSES, valid_range=None, kind="tabular", shifts=shifts)
    scaled = TemperatureScaling().fit(predict(model, data.calibration, Ranks()))
    return Subject(model, data, Threat("l2", 0.25, None, None), {"scaled": scaled}, batch_size=100)


@cache
def found() -> Findings:
    return Conformal(**SETTINGS).evaluate(subject())


def test_every_rule_is_told_of_by_column_split_and_inputs() -> None:
    prefixes = {
        name.partition("conformal/")[0] + name.split("conformal/")[1].rpartition("/coverage")[0]
        for name in found().metrics
        if name.endswith("/coverage")
    }
    plain = {"lac", "aps", "raps", "class_conditional"}
    assert prefixes == {
        f"{prefix}/{inputs}{rule}"
        for prefix in ("test", "test/scaled", "blurred", "blurred/scaled")
        for inputs in (("", "pgd-4/") if prefix.startswith("test") else ("",))
        for rule in plain
    } | {"test/rscp_plus", "test/smoothed-pgd-4/rscp_plus"}
    by_column = [line for rule in plain_rows() for line in (rule, f"{rule}, scaled")]
    assert {name: [row.name for row in table.rows] for name, table in found().tables.items()} == {
        "test-conformal": [*by_column, "rscp_plus"],
        "test-conformal-pgd-4": by_column,
        "test-conformal-smoothed-pgd-4": ["rscp_plus"],
        "shifts-conformal": ["blurred", "blurred, scaled"],
    }


def plain_rows() -> list[str]:
    return ["lac", "aps", "raps", "class_conditional"]


def test_plain_sets_cover_test_and_lose_it_under_attack_where_rscp_plus_keeps_it() -> None:
    metrics = found().metrics
    for rule in plain_rows():
        # of 300 examples that set thresholds and 400 that are looked at, four standard errors are 0.09
        assert metrics[f"test/conformal/{rule}/coverage"] > 0.81
        assert metrics[f"test/conformal/pgd-4/{rule}/coverage_high"] < 0.9
    assert metrics["test/conformal/rscp_plus/coverage"] >= 0.9
    assert metrics["test/conformal/smoothed-pgd-4/rscp_plus/coverage"] >= 0.9
    attacked = metrics["test/conformal/smoothed-pgd-4/rscp_plus/mean_size"]
    assert attacked > metrics["test/conformal/rscp_plus/mean_size"]
    assert metrics["test/conformal/rscp_plus/full"] < 0.5
    assert found().doubts == ()


def test_what_the_attacks_were_stands_beside_what_they_left() -> None:
    settings = {
        name.removeprefix("test/conformal/"): value for name, value in found().metrics.items() if name.count("/") == 3
    }
    assert {name: value for name, value in settings.items() if "pgd" in name} == {
        "pgd-4/eps_l2": 0.25,
        "pgd-4/steps": 4,
        "smoothed-pgd-4/eps_l2": 0.25,
        "smoothed-pgd-4/steps": 4,
        "smoothed-pgd-4/attack_sigma": 0.5,
        "smoothed-pgd-4/attack_copies": 8,
    }
    for name, told in {
        "pgd-4": "PGD of 4 steps on the cross-entropy, l2, eps = 0.25",
        "smoothed-pgd-4": "PGD of 4 steps on the cross-entropy of mean probabilities over 8 copies in noise of "
        "sigma = 0.5, l2, eps = 0.25",
    }.items():
        assert found().tables[f"test-conformal-{name}"].note.endswith(f"; {name}: {told}")


def test_every_rule_is_explained() -> None:
    assert set(found().meanings) == {*plain_rows(), "rscp_plus"}
    assert all(found().meanings.values())


def test_nothing_is_attacked_that_is_not_asked_for() -> None:
    plain = Conformal().evaluate(subject())
    assert not any("pgd" in name or "rscp" in name for name in [*plain.metrics, *plain.tables])
    told = {name: value for name, value in found().metrics.items() if "pgd" not in name and "rscp" not in name}
    assert plain.metrics == told
    assert len(plain.notes) == 1
    sizes = plain.figures["test-conformal-sizes"]
    assert isinstance(sizes, SetSizes)
    assert [name for name, _ in sizes.panels] == [""]
    assert Conformal(alpha=0.001).beta == 0.001  # of which nothing is taken off alpha


def test_thresholds_and_calibrators_have_no_example_in_common() -> None:
    here = subject()
    halves = Halves.of(here)
    assert sorted([*halves.fitting.tolist(), *halves.setting.tolist()]) == list(range(CALIBRATION))
    assert len(halves.setting) == CALIBRATION // 2
    assert halves.setting.sort().values.diff().max() > 2  # not a block, and not every other row
    held_out = predict(here.model, here.splits.calibration, Ranks())
    calibrator = refitted(here.calibrators["scaled"], held_out.rows(halves.fitting))
    seen = predict(here.model, here.splits.test, Ranks())

    def uniform(split: str, count: int) -> Tensor:
        return Draws.of(0, torch.arange(count)).named("conformal", split).uniform()

    whole = Held(calibrator(held_out.logits), held_out.label, uniform("calibration", CALIBRATION))
    made = rules(whole.rows(halves.fitting), whole.rows(halves.setting), 0.1)
    for name, one in made.items():
        sets = one.sets(calibrator(seen.logits), uniform("test", TESTS))
        coverage = float(sets.gather(1, seen.label[:, None]).double().mean())
        assert found().metrics[f"test/scaled/conformal/{name}/coverage"] == pytest.approx(coverage)
        assert found().metrics[f"test/scaled/conformal/{name}/mean_size"] == pytest.approx(
            float(sets.sum(1).double().mean())
        )


def test_smoothed_sets_grow_with_the_ball_and_shrink_with_the_copies() -> None:
    halves, some = Halves.of(subject()), torch.arange(60)
    data = subject().splits.test.rows(some)

    def sets(eps: float, copies: int) -> Tensor:
        made = Smoothing(0.1, eps, 0.5, copies, 0.001).fitted(subject(), halves.fitting[:100], halves.setting[:60])
        return made.sets(data, some)

    small, large = sets(0.1, 256), sets(0.4, 256)
    assert (large | ~small).all()
    assert large.sum() > small.sum()
    assert sets(0.1, 64).sum() > small.sum()


def test_what_is_told_says_which_rows_did_what() -> None:
    rows, robust = found().notes
    assert rows == (
        "Conformal sets at alpha = 0.1: 300 examples, a random half of the calibration split, set thresholds; to the "
        "other 300 copies of the calibrators are fitted, and RAPS is tuned on them. By a threshold from 300 examples "
        "coverage comes to between 86.4 and 93.2 % in 95 % of cases. RAPS: penalty 0.01 after 2 free places "
        "(uncalibrated); penalty 0.1 after 2 free places (scaled)."
    )
    assert robust.startswith("RSCP+ with PTT: coverage within l2 radius 0.25 of the examples, sigma = 0.5, 256 copies")
    assert "100 calibration examples set its threshold, 300 others rank scores; 100 test examples, attacked" in robust


def test_the_figure_holds_the_metrics() -> None:
    figure = found().figures["test-conformal-sizes"]
    assert isinstance(figure, SetSizes)
    assert [name for name, _ in figure.panels] == ["as they are", "pgd-4", "smoothed-pgd-4"]
    for (_, sizes), where in zip(figure.panels, ("", "pgd-4/", "smoothed-pgd-4/"), strict=True):
        for one in sizes:
            assert one.coverage == found().metrics[f"test/conformal/{where}{one.rule}/coverage"]
            mean = sum(size * count for size, count in enumerate(one.counts)) / sum(one.counts)
            assert mean == pytest.approx(found().metrics[f"test/conformal/{where}{one.rule}/mean_size"])


def found_here() -> dict[str, float]:
    """On the ranks that there are, in other batches."""
    return Conformal(**SETTINGS).evaluate(replace(subject(), ranks=current_ranks(), batch_size=37)).metrics


def test_neither_batch_size_nor_ranks_change_anything(pair: Pair) -> None:
    expected = found().metrics
    assert found_here() == pytest.approx(expected, abs=1e-12)
    assert pair.run(found_here) == [pytest.approx(expected, abs=1e-12)] * 2


def test_without_a_ball_there_is_no_rscp_plus_and_without_a_threat_no_attack() -> None:
    other = replace(subject(), threat=Threat("linf", 0.1, None, None))
    evaluated = Conformal(**SETTINGS).evaluate(other)
    assert not any("rscp" in name for name in evaluated.metrics)
    assert "test/conformal/pgd-4/lac/coverage" in evaluated.metrics
    assert evaluated.notes[1] == "RSCP+ keeps coverage in l2 balls: with threat=l2 conformal tells of it too."
    none = Conformal(**SETTINGS).evaluate(replace(subject(), threat=Threat("l2", 0.0, None, None)))
    assert not any("pgd" in name for name in [*none.tables, *none.metrics])
    assert none.notes[1:] == ("No sets were attacked: the threat's eps is 0.",)


def test_sets_of_all_labels_are_warned_of() -> None:
    (doubt,) = Conformal(**{**SETTINGS, "sigma": 30.0}).evaluate(subject()).doubts
    assert (
        "of the sets of RSCP+ are of all labels: the network was hardly trained on inputs in noise of sigma=30" in doubt
    )


def without_a_threat(**parts: Any) -> Subject:
    """The subject on other data, not attacked."""
    return replace(subject(), splits=replace(subject().splits, **parts), threat=Threat("l2", 0.0, None, None))


def test_examples_that_are_not_of_one_kind_are_told_of() -> None:
    (doubt,) = Conformal().evaluate(without_a_threat(test=subject().splits.shifts["blurred"])).doubts
    assert doubt.startswith("conformal sets (lac) hold the true label of ")
    assert "where calibration examples promise 90 %: the two are not of the same kind" in doubt


def test_classes_with_few_examples_are_told_of() -> None:
    calibration = subject().splits.calibration
    few = (calibration.label != 1) | (torch.arange(CALIBRATION) < 20)
    evaluated = Conformal().evaluate(without_a_threat(calibration=calibration.rows(few)))
    assert "1 of 4 classes have fewer than 9 of those, so their labels are in every set" in evaluated.notes[0]


def test_too_few_examples_are_refused() -> None:
    data = replace(subject().splits, calibration=rows(19, 0))
    reason = (
        "alpha=0.1 takes 20 calibration examples, half of them to set thresholds by, and there are 19: give more by "
        "data.calibration, raise alpha"
    )
    with pytest.raises(UserError) as caught:
        Conformal(attacked=True).check(data)
    assert str(caught.value) == reason
    Conformal(attacked=True).check(replace(data, calibration=rows(20, 0)))
    Conformal().check(replace(data, calibration=rows(18, 0)))
    with pytest.raises(UserError, match=r"^smoothed_examples=9 set no threshold at alpha=0\.1: it takes 10 or more\.$"):
        Conformal(attacked=True, smoothed_examples=9)
    with pytest.raises(UserError, match="set beta below 0.05"):
        Conformal(attacked=True, beta=0.06)


class NeedsUnlabelled(TemperatureScaling):
    """Notes what it was fitted to."""

    needs = frozenset({"unlabelled"})

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "NeedsUnlabelled":
        assert unlabelled is not None
        self.seen = (len(held_out.label), len(unlabelled.label))
        super().fit(held_out)
        return self


def test_calibrators_get_what_they_need_and_those_of_the_run_stay_as_they_are() -> None:
    here = subject()
    data = replace(here.splits, streams={"unlabelled": rows(30, 5)}, calibration=rows(41, 6))
    own = NeedsUnlabelled().fit(predict(here.model, data.calibration, Ranks()), predict(here.model, data.val, Ranks()))
    halves = Halves.of(replace(here, splits=data))
    assert (len(halves.fitting), len(halves.setting)) == (20, 21)
    made = PlainSets.fitted(replace(here, splits=data, calibrators={"own": own}), halves, 0.1)
    copy = made.subject.calibrators["own"]
    assert isinstance(copy, NeedsUnlabelled)
    assert (copy.seen, own.seen) == ((20, 30), (41, 20))
