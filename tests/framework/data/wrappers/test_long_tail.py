"""How many examples each class keeps, and which."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.data.dataset import Arrays, Splits
from poise.data.wrappers.long_tail import LongTail
from poise.data.wrappers.step_imbalance import StepImbalance
from poise.errors import UserError


def data(*counts: int) -> Splits:
    """So many training examples of each class; each input is its own number."""
    label = torch.cat([torch.full((count,), c) for c, count in enumerate(counts)])
    x = torch.arange(len(label))[:, None].float()
    held_out = Arrays(torch.zeros(len(counts), 1), torch.arange(len(counts)))
    train = Arrays(x, label, label % 2)
    return Splits(train, held_out, held_out, held_out, num_classes=len(counts), valid_range=None, kind="tabular")


def counts(splits: Splits) -> list[int]:
    return splits.train.label.bincount(minlength=splits.num_classes).tolist()


def test_ten_classes_of_five_thousand_as_published() -> None:
    """CIFAR-10-LT with an imbalance of 100 has 12,406 pictures."""
    made = counts(LongTail(100.0).wrap(data(*[5000] * 10), 0))
    assert made == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert sum(made) == 12406
    assert counts(StepImbalance(100.0).wrap(data(*[5000] * 10), 0)) == [5000] * 5 + [50] * 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(20, 60), min_size=2, max_size=7), st.floats(1.0, 20.0), st.integers(0, 2**32 - 1))
def test_each_class_keeps_its_share_and_its_rows(before: list[int], factor: float, seed: int) -> None:
    whole, last = data(*before), len(before) - 1
    made = LongTail(factor).wrap(whole, seed)
    for c, (count, kept) in enumerate(zip(before, counts(made), strict=True)):
        assert abs(kept - min(count, max(before) * factor ** (-c / last))) < 1 + 1e-6
    rows = made.train.x.flatten().long()
    assert rows.equal(rows.unique())
    assert made.train.label.equal(whole.train.label[rows])
    assert made.train.group is not None
    assert made.train.group.equal(made.train.label % 2)
    assert (made.val, made.calibration, made.test) == (whole.val, whole.calibration, whole.test)
    assert LongTail(factor).wrap(whole, seed).train.x.equal(made.train.x)


def test_which_examples_stay_depends_on_the_seed() -> None:
    whole = data(50, 50, 50)
    assert not LongTail(5.0).wrap(whole, 1).train.x.equal(LongTail(5.0).wrap(whole, 2).train.x)


def test_a_factor_of_one_changes_nothing() -> None:
    whole = data(30, 30, 30)
    for wrapper in (LongTail(1.0), StepImbalance(1.0)):
        assert wrapper.wrap(whole, 0).train.x.equal(whole.train.x)


def test_a_class_left_without_examples_is_named() -> None:
    with pytest.raises(
        UserError,
        match=r"^long_tail\.factor=50 leaves no training example of class '2': 0\.6 of the 30 that the largest class "
        r"has\. Take a factor of 30 or less\.$",
    ):
        LongTail(50.0).wrap(data(30, 30, 30), 0)
    with pytest.raises(UserError, match=r"^step_imbalance\.factor=50 leaves no training example of class '1'"):
        StepImbalance(50.0).wrap(data(30, 30, 30), 0)
    assert counts(LongTail(30.0).wrap(data(30, 30, 30), 0)) == [30, math.floor(30**0.5), 1]


def test_without_training_examples_there_is_nothing_to_thin() -> None:
    whole = data(4, 4)
    tested = Splits(whole.train.none(), whole.val, whole.val, whole.test, 2, valid_range=None, kind="tabular")
    with pytest.raises(UserError, match=r"long_tail\.factor=2 changes training examples, of which these data have non"):
        LongTail(2.0).wrap(tested, 0)
