from functools import cache, partial

import pytest
import torch
from torch import Tensor

from poise.conformal import rules as module
from poise.conformal.rules import PENALTIES, Held, rule, rule_by_class, rules, tuned_raps
from poise.conformal.strangeness import aps, lac, raps
from poise.conformal.threshold import threshold
from poise.errors import UserError

CLASSES, ALPHA = 5, 0.1
SPLITS, OF_EACH, OFTEN = 600, 10, 0.2  # of many splits, and of an alpha at which no place is the last one


def held(count: int, seed: int) -> Held:
    """Logits that are right about their labels, but for one class, which is told as far too certain."""
    keyed = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, CLASSES, generator=keyed)
    label = torch.multinomial(logits.softmax(1), 1, generator=keyed)[:, 0]
    logits[label == 0, 1] += 2
    return Held(logits, label, torch.rand(count, generator=keyed))


def covered(sets: Tensor, examples: Held) -> Tensor:
    return sets.gather(1, examples.label[:, None])[:, 0].double()


def lacs(logits: Tensor, u: Tensor) -> Tensor:
    return lac(logits)


def balanced(of_each: int, seed: int) -> Held:
    """As many examples of every class."""
    keyed = torch.Generator().manual_seed(seed)
    label = torch.arange(CLASSES).repeat(of_each)
    logits = 2 * torch.randn(len(label), CLASSES, generator=keyed, dtype=torch.float64) + 2 * torch.eye(CLASSES)[label]
    return Held(logits, label, torch.rand(len(label), generator=keyed))


@cache
def coverages() -> dict[str, Tensor]:
    """Of each rule the coverage of each class [S, C], over S splits; ten examples of a class set thresholds."""
    found: dict[str, list[Tensor]] = {}
    for split in range(SPLITS):
        examples = balanced(20, 2 * split + 1)
        for name, made in rules(held(20, 10**6), balanced(OF_EACH, 2 * split), OFTEN).items():
            of_examples = covered(made.sets(examples.logits, examples.u), examples)
            found.setdefault(name, []).append(of_examples.reshape(-1, CLASSES).mean(0))
    return {name: torch.stack(shares) for name, shares in found.items()}


@pytest.mark.parametrize("name", ["lac", "aps", "raps"])
def test_over_many_splits_coverage_is_that_of_the_place_of_the_threshold(name: str) -> None:
    """Of scores of which no two are alike the k-th smallest of n covers k/(n + 1): by a place more or less it fails."""
    place, n = 41, OF_EACH * CLASSES  # ⌈51 · 0.8⌉ of 50
    assert is_mean(coverages()[name].mean(1), place / (n + 1))
    assert not any(is_mean(coverages()[name].mean(1), (place + off) / (n + 1)) for off in (-1, 1))


def test_over_many_splits_every_class_has_the_coverage_of_the_place_of_its_threshold() -> None:
    for of_class in coverages()["class_conditional"].T:
        assert is_mean(of_class, 9 / 11)  # ⌈11 · 0.8⌉ of 10
        assert not any(is_mean(of_class, share) for share in (8 / 11, 10 / 11))


@pytest.mark.parametrize(
    ("name", "count"), [("lac", 41), ("aps", 41), ("raps", 41), ("class_conditional", 9 * CLASSES)]
)
def test_the_example_that_sets_a_threshold_has_its_own_label(name: str, count: int) -> None:
    examples = balanced(OF_EACH, 0)
    made = rules(held(20, 10**6), examples, OFTEN)[name]
    assert int(covered(made.sets(examples.logits, examples.u), examples).sum()) == count


def is_mean(shares: Tensor, expected: float) -> bool:
    """Whether the mean is as expected, within four standard errors."""
    return abs(float(shares.mean()) - expected) < 4 * float(shares.std()) / len(shares) ** 0.5


def test_one_threshold_leaves_a_class_behind_and_one_each_does_not() -> None:
    calibration, tests = held(4000, 0), held(4000, 1)
    of_class = tests.label == 0
    one = covered(rule(lacs, calibration, ALPHA).sets(tests.logits, tests.u), tests)[of_class].mean()
    each = covered(rule_by_class(lacs, calibration, ALPHA).sets(tests.logits, tests.u), tests)[of_class].mean()
    error = 3 * (2 * ALPHA * (1 - ALPHA) / int(of_class.sum())) ** 0.5  # of both halves
    assert one < 1 - ALPHA - error < each


def test_too_few_examples_give_all_labels() -> None:
    tests = held(20, 1)
    for made in rules(held(8, 2), held(8, 0), ALPHA).values():
        assert made.sets(tests.logits, tests.u).all()


def test_a_smaller_alpha_gives_larger_sets() -> None:
    calibration, tests = held(200, 0), held(50, 1)
    for score in (lacs, aps, partial(raps, penalty=0.1, free=1)):
        wide, narrow = (rule(score, calibration, alpha).sets(tests.logits, tests.u) for alpha in (0.05, 0.3))
        assert (wide | ~narrow).all()
        assert wide.sum() > narrow.sum()


def test_raps_takes_the_penalty_with_the_smallest_sets() -> None:
    tuning = held(300, 0)
    chosen = tuned_raps(tuning, ALPHA)
    place = tuning.logits.argsort(dim=1, descending=True).argsort(1).gather(1, tuning.label[:, None])[:, 0] + 1
    free = int(threshold(place.double(), ALPHA))

    def size(score: module.Strangeness) -> float:
        return float(rule(score, tuning, ALPHA).sets(tuning.logits, tuning.u).sum(1).double().mean())

    assert size(chosen) == min(size(partial(raps, penalty=penalty, free=free)) for penalty in PENALTIES)
    assert str(chosen) == f"penalty {chosen.penalty:g} after {free} free place{'s' * (free > 1)}"
    assert rules(tuning, held(300, 1), ALPHA)["raps"].settled == str(chosen)
    assert torch.equal(tuned_raps(held(5, 0), ALPHA)(tuning.logits, tuning.u), aps(tuning.logits, tuning.u))


def test_raps_is_tuned_on_examples_that_set_no_threshold() -> None:
    tuning, calibration = held(8, 0), held(300, 1)  # eight are too few to tell any place, so none is cut off
    tests = held(100, 2)
    found = rules(tuning, calibration, ALPHA)
    assert torch.equal(found["raps"].sets(tests.logits, tests.u), found["aps"].sets(tests.logits, tests.u))
    other = rules(calibration, calibration, ALPHA)["raps"].sets(tests.logits, tests.u)
    assert not torch.equal(other, found["raps"].sets(tests.logits, tests.u))


def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration, tests = held(60, 0), held(30, 1)
    expected = {name: made.sets(tests.logits, tests.u) for name, made in rules(calibration, calibration, ALPHA).items()}
    monkeypatch.setattr(module, "PIECE", 7 * CLASSES)
    for name, made in rules(calibration, calibration, ALPHA).items():
        assert torch.equal(made.sets(tests.logits, tests.u), expected[name])


def test_logits_that_are_no_numbers_have_every_label() -> None:
    made = rule(lacs, held(60, 0), ALPHA)
    assert made.sets(torch.full((1, CLASSES), torch.nan), torch.zeros(1)).all()


def test_held_examples_are_looked_at() -> None:
    with pytest.raises(UserError, match=r"^Example 0 of what Held takes has a label outside 0…4 \(1 of 1 do\)"):
        Held(torch.zeros(1, CLASSES), torch.tensor([CLASSES]), torch.zeros(1))
    with pytest.raises(UserError, match="^Example 0 of what Held takes has u outside 0…1"):
        Held(torch.zeros(1, CLASSES), torch.tensor([0]), torch.tensor([2.0]))
