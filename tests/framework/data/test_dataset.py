"""What data must be, and what is said where they are not."""

import dataclasses

import numpy as np
import pytest
import torch

from poise.data.dataset import Arrays, Splits
from poise.errors import UserError


def _split(n: int = 6, **changes: object) -> Arrays:
    x = torch.rand(n, 1, 2, 2, generator=torch.Generator().manual_seed(n))
    given = {"x": x, "label": torch.arange(n) % 3, **changes}
    return Arrays(**given)


def _splits(**changes: object) -> Splits:
    four = {name: _split() for name in ("train", "val", "calibration", "test")}
    return Splits(**{**four, "num_classes": 3, "class_names": ("a", "b", "c"), **changes})


def test_fetch_gives_whole_batches() -> None:
    data = _split(group=torch.tensor([0, 1, 0, 1, 0, 1]))
    rows = torch.tensor([4, 1, 4])
    batch = data.fetch(rows)
    assert set(batch) == {"x", "label", "index", "group"}
    assert torch.equal(batch["x"], torch.stack([data.x[4], data.x[1], data.x[4]]))
    assert batch["label"].tolist() == [1, 1, 1]
    assert batch["index"].tolist() == [4, 1, 4]
    assert batch["group"].tolist() == [0, 1, 0]
    assert "group" not in _split().fetch(rows)


def test_one_row_is_an_item() -> None:
    data = _split()
    item = data[-1]
    assert torch.equal(item["x"], data.x[5])
    assert item["index"].item() == 5
    assert len(data) == 6
    with pytest.raises(IndexError, match="index 6 of 6"):
        data[6]


def test_uint8_stays_and_labels_become_int64() -> None:
    data = Arrays(torch.zeros(2, 3, dtype=torch.uint8), torch.tensor([0, 1], dtype=torch.uint8))
    assert data.x.dtype == torch.uint8
    assert data.label.dtype == torch.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": torch.rand(6)}, "label holds float32: give integers"),
        ({"label": torch.arange(5)}, r"x has 6 rows, label has shape \(5,\)"),
        ({"label": torch.zeros(6, 2, dtype=torch.int64)}, r"label has shape \(6, 2\)"),
        ({"group": torch.rand(6)}, "group holds float32"),
        ({"group": torch.arange(7)}, r"x has 6 rows, group has shape \(7,\)"),
        ({"x": torch.zeros(6, 2, dtype=torch.int64)}, "x holds int64: give uint8"),
        ({"x": np.zeros((6, 2))}, r"x is of type ndarray: give a torch tensor, as torch\.from_numpy\(x\)"),
        ({"label": [0, 1, 2, 0, 1, 2]}, "label is of type list: give a torch tensor"),
        ({"label": None}, "label is of type NoneType"),
        ({"group": np.arange(6)}, "group is of type ndarray"),
        ({"x": torch.zeros(6)}, r"x has shape \(6,\): give one row per example"),
    ],
)
def test_arrays_that_do_not_fit_each_other(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _split(**changes)


def _with(value: float, row: int = 4) -> torch.Tensor:
    x = torch.rand(6, 1, 2, 2)
    x[row, 0, 1, 0] = value
    return x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val": _split(x=_with(float("nan")))}, r"val: x\[4\] holds a value that is not finite"),
        ({"test": _split(x=_with(float("inf"), 2))}, r"test: x\[2\] holds a value that is not finite"),
        ({"train": _split(x=_with(1.5, 3))}, r"train: x\[3\] holds values from .* to 1.5, outside .* 0 to 1"),
        ({"calibration": _split(x=_with(-0.25, 0))}, r"calibration: x\[0\] holds values from -0.25"),
        (
            {"test": _split(label=torch.tensor([0, 1, 3, 1, 3, 0]))},
            r"test: label\[2\] is 3, allowed is 0 to 2",
        ),
        (
            {"val": _split(label=torch.tensor([0, -1, 2, 1, 3, 0]))},
            r"val: label\[1\] is -1, allowed is 0 to 2",
        ),
        ({"val": _split(0)}, "val is empty"),
        ({"train": _split(label=torch.ones(6, dtype=torch.int64))}, "train: every label is 1"),
        ({"test": _split(label=torch.ones(6, dtype=torch.int64))}, "test: every label is 1"),
        (
            {"train": _split(group=torch.tensor([0, 1, 2, -3, 0, -1]))},
            r"train: group\[3\] is -3, .* 0 or more",
        ),
        (
            {"train": _split(group=torch.arange(6)), "group_names": ("g", "h")},
            r"train: group\[2\] is 2, allowed is 0 to 1",
        ),
        (
            {"val": _split(group=torch.tensor([0, 0, 0, 0, 0, 9_000_000_000]))},
            "val: a group is 9000000000, where 999 is the largest allowed: number the groups from 0",
        ),
        ({"val": Arrays(torch.rand(6, 4), torch.arange(6) % 3)}, r"val has inputs of shape \(4,\), train of"),
        ({"class_names": ("a", "b")}, "3 classes with 2 names"),
        ({"class_names": ("a", "b", "a")}, "each class has a name of its own"),
        ({"class_names": ("a", "b", "")}, "each class has a name of its own"),
        ({"class_names": ("a", "b", "\x1b[31mc")}, r"the name '\\x1b\[31mc' has a control character"),
        ({"group_names": ("g", "h\n")}, r"the name 'h\\n' has a control character"),
        ({"valid_range": (1.0, 0.0)}, r"valid_range=\(1.0, 0.0\) has to be a lower and a higher number"),
        ({"valid_range": (0.0, float("inf"))}, "has to be a lower and a higher number"),
        ({"streams": {"extra": _split(label=torch.full((6,), -2))}}, r"streams\.extra: label\[0\] is -2"),
        ({"shifts": {"fog": _split(x=_with(2.0, 1))}}, r"shifts\.fog: x\[1\]"),
        ({"ood": {"noise": _split(x=_with(float("nan"), 1))}}, r"ood\.noise: x\[1\]"),
    ],
)
def test_data_that_cannot_be_used_name_the_split_and_the_row(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _splits(**changes)


def test_what_is_allowed() -> None:
    one_class = _split(label=torch.zeros(6, dtype=torch.int64))
    unknown = _split(label=torch.full((6,), -1))
    _splits(val=one_class, calibration=one_class, streams={"unlabelled": unknown}, ood={"other": unknown})
    wide = {name: Arrays(100 * torch.randn(6, 4), torch.arange(6) % 3) for name in _splits().main}
    _splits(**wide, valid_range=None, kind="tabular")
    bytes_ = _split(x=torch.full((6, 1, 2, 2), 255, dtype=torch.uint8))
    _splits(**dict.fromkeys(_splits().main, bytes_))


def test_infinity_is_refused_without_a_valid_range_too() -> None:
    x = torch.randn(6, 4)
    x[5, 1] = float("-inf")
    data = {name: Arrays(torch.randn(6, 4), torch.arange(6) % 3) for name in _splits().main}
    with pytest.raises(UserError, match=r"val: x\[5\] holds a value that is not finite"):
        _splits(**{**data, "val": Arrays(x, torch.arange(6) % 3)}, valid_range=None)


def test_what_splits_tell() -> None:
    assert _splits(test=_split(1001, group=torch.arange(1001))).num_groups == 1001
    splits = _splits(val=_split(group=torch.tensor([0, 4, 0, 0, 0, 0])))
    assert splits.input_shape == (1, 2, 2)
    assert splits.num_groups == 5
    assert _splits().num_groups == 0
    assert list(splits.main) == ["train", "val", "calibration", "test"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        splits.train = _split()  # type: ignore[misc]
