from functools import partial

import pytest
import torch
from torch import Tensor

from poise.conformal import rules as module
from poise.conformal.rules import PENALTIES, Held, rule, rule_by_class, rules, tuned_raps
from poise.conformal.strangeness import aps, lac, raps
from poise.conformal.threshold import threshold

CLASSES, ALPHA = 5, 0.1


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


@pytest.mark.parametrize("name", ["lac", "aps", "raps", "class_conditional"])
def test_every_rule_covers_what_it_promises_over_many_splits(name: str) -> None:
    n, tests, splits = 60, 400, 40
    shares = []
    for split in range(splits):
        made = rules(held(n, 3 * split), held(n, 3 * split + 1), ALPHA)[name]
        examples = held(tests, 3 * split + 2)
        shares.append(float(covered(made.sets(examples.logits, examples.u), examples).mean()))
    mean = sum(shares) / splits
    error = torch.tensor(shares).std().item() / splits**0.5
    assert mean >= 1 - ALPHA - 3 * error
    if name != "class_conditional":  # which few examples of a class make wider
        assert mean <= 1 - ALPHA + 1 / (n + 1) + 3 * error


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
