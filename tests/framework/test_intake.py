from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import UserError
from poise.intake import as_record, check_record

X, Y, G = torch.rand(4, 3), torch.tensor([0, 1, 2, 1]), torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("given_batch", "fields"),
    [
        ((X, Y), {"x", "label"}),
        ([X, Y], {"x", "label"}),
        ((X, Y, G), {"x", "label", "group"}),
        ({"x": X, "label": Y}, {"x", "label"}),
        ({"x": X, "label": Y, "index": Y, "group": G, "position": Y}, {"x", "label", "index", "group", "position"}),
    ],
)
def test_what_loaders_yield_comes_into_one_form(given_batch: Any, fields: set[str]) -> None:
    record = as_record(given_batch)
    assert set(record) == fields
    assert record["x"] is X
    assert record["label"] is Y
    check_record(record, 3, (0.0, 1.0))


def test_streams_come_into_the_same_form() -> None:
    record = as_record({"x": X, "label": Y, "streams": {"unlabelled": (X, torch.full((4,), -1))}})
    assert record["streams"]["unlabelled"]["x"] is X
    check_record(record, 3, (0.0, 1.0))


@pytest.mark.parametrize(
    ("given_batch", "message"),
    [
        ({"x": X, "lable": Y}, "a batch has a field 'lable'. Did you mean 'label'?"),
        ({"x": X}, r"a batch has \['x'\], and needs `x` and `label`"),
        (X, r"a batch is a Tensor; give \(x, y\), \(x, y, group\) or a dict with x and label"),
        ((X,), "a batch is a tuple; give"),
        ((X, Y, G, Y), "a batch is a tuple; give"),
        ({"x": X, "label": Y, "streams": {"u": {"x": X}}}, r"a batch has \['x'\], and needs `x` and `label`"),
    ],
)
def test_other_forms_are_refused(given_batch: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_record(given_batch)


def check(x: Any = X, label: Any = Y, valid_range: tuple[float, float] | None = (0.0, 1.0), **more: Any) -> None:
    check_record({"x": x, "label": label, **more}, 3, valid_range)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": Y + 1}, r"labels go from 1 to 3, outside 0…2 \(num_classes=3\)"),
        ({"label": Y - 1}, r"labels go from -1 to 1, outside 0…2"),
        ({"label": Y.float()}, r"labels are torch.float32 of shape \(4,\); give integers of shape \[B\]"),
        ({"label": Y[:, None]}, r"of shape \(4, 1\); give integers"),
        ({"label": Y[:3]}, "a batch has 4 inputs and 3 labels"),
        ({"label": Y.numpy()}, "`label` of a batch is a ndarray; give a tensor"),
        ({"x": np.zeros((4, 3))}, "`x` of a batch is a ndarray; give a tensor"),
        ({"x": X.long()}, "inputs are torch.int64; give uint8 pictures or floats"),
        ({"x": X.log().sqrt()}, "a batch has inputs that are NaN or infinite"),
        ({"x": X / 0}, "a batch has inputs that are NaN or infinite"),
        ({"x": 4 * X - 2}, r"outside the valid range 0…1: normalise inside the model"),
        ({"streams": {"u": {"x": X, "label": Y - 2}}}, "labels go from -2 to 0, outside -1…2"),
        ({"streams": {"u": {"x": X + 1, "label": Y}}}, "outside the valid range"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(changes: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(**changes)


@settings(deadline=None, max_examples=50)
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_inputs_are_held_to_the_valid_range(low: float, high: float) -> None:
    x = torch.tensor([[low, high]])
    inside = min(low, high) >= 0 and max(low, high) <= 1
    near = min(low, high) >= -1e-5 and max(low, high) <= 1 + 1e-5
    if inside:
        check(x, Y[:1])
    elif not near:
        with pytest.raises(UserError, match="outside the valid range 0…1"):
            check(x, Y[:1])
    check(x, Y[:1], valid_range=None)


def test_pictures_in_bytes_need_no_look() -> None:
    check(torch.full((4, 3), 255, dtype=torch.uint8))
