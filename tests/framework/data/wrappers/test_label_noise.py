"""Which labels are wrong, and what they say."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.data.dataset import Arrays, Splits
from poise.data.wrappers.label_noise import LabelNoise
from poise.errors import UserError
from small_runs import splits


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 1.0), st.sampled_from(["symmetric", "pair"]), st.integers(0, 2**32 - 1))
def test_exactly_a_share_of_the_labels_is_wrong(rate: float, kind: Literal["symmetric", "pair"], seed: int) -> None:
    data = splits()
    made = LabelNoise(rate, kind).wrap(data, seed)
    wrong = made.train.label != data.train.label
    assert int(wrong.sum()) == round(rate * len(data.train))
    assert int(made.train.label.min()) >= 0
    assert int(made.train.label.max()) < data.num_classes
    if kind == "pair":
        assert made.train.label[wrong].equal((data.train.label[wrong] + 1) % 3)
    assert made.train.x is data.train.x
    assert made.train.group is not None
    assert made.train.group.equal(data.train.group)
    assert (made.val, made.calibration, made.test) == (data.val, data.calibration, data.test)
    assert LabelNoise(rate, kind).wrap(data, seed).train.label.equal(made.train.label)


def test_a_symmetric_wrong_label_is_any_other_class_alike() -> None:
    count, classes = 30_000, 5
    train = Arrays(torch.zeros(count, 1), torch.arange(count) % classes)
    data = Splits(train, train, train, train, classes, valid_range=None, kind="tabular")
    made = LabelNoise(0.4).wrap(data, 0).train.label
    confusion = torch.zeros(classes, classes).index_put((train.label, made), torch.ones(count), accumulate=True)
    share = confusion / confusion.sum(1, keepdim=True)
    expected = torch.full((classes, classes), 0.1).fill_diagonal_(0.6)
    torch.testing.assert_close(share, expected, rtol=0, atol=0.025)  # five standard deviations


def test_held_out_labels_are_wrong_where_that_is_asked() -> None:
    data = splits()
    made = LabelNoise(0.5, splits=("train", "val", "calibration")).wrap(data, 0)
    for name in ("train", "val", "calibration"):
        changed = made.main[name].label != data.main[name].label
        assert int(changed.sum()) == len(data.main[name]) // 2
    assert made.test is data.test


def test_without_training_examples_no_label_is_wrong() -> None:
    data = splits()
    tested = splits(train=data.train.none())
    with pytest.raises(UserError, match="label_noise changes training examples, of which these data have none"):
        LabelNoise(0.1).wrap(tested, 0)
