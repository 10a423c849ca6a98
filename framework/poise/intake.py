"""What a loader yields, brought into one form and checked before it reaches the device."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from poise.errors import UserError, nearest

FIELDS = ("x", "label", "index", "group", "position", "streams")


def as_record(data: Any) -> dict[str, Any]:
    """A loader's batch as a dict: `(x, y)`, `(x, y, group)` or a mapping with `x` and `label`.

    Raises:
        UserError: another form, or a key that has no meaning here.
    """
    if isinstance(data, Mapping):
        unknown = [key for key in data if key not in FIELDS]
        if unknown:
            raise UserError(f"a batch has a field {unknown[0]!r}.{nearest(str(unknown[0]), FIELDS)}")
        if not {"x", "label"} <= set(data):
            raise UserError(f"a batch has {sorted(data)}, and needs `x` and `label`")
        streams = {name: as_record(stream) for name, stream in data.get("streams", {}).items()}
        return {**data, **({"streams": streams} if streams else {})}
    if isinstance(data, Sequence) and len(data) in (2, 3):
        return dict(zip(("x", "label", "group"), data, strict=False))
    raise UserError(f"a batch is a {type(data).__name__}; give (x, y), (x, y, group) or a dict with x and label")


def pinned(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record in pages from which a GPU copies by itself, while the host goes on."""
    return {name: _pinned(value) for name, value in record.items()}


def _pinned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return pinned(value)
    return value.pin_memory() if isinstance(value, Tensor) and value.device.type == "cpu" else value


def check_record(
    record: Mapping[str, Any], num_classes: int, valid_range: tuple[float, float] | None, num_groups: int = 0
) -> None:
    """Refuse labels outside 0…C-1, NaN, and inputs outside the valid range, while the batch is on the host.

    In streams, a label of -1 stands for a class that is not known. Groups are checked where their number is known.

    Raises:
        UserError: what is wrong, and where to change it.
    """
    _check_rows(record, num_classes, valid_range, lowest=0)
    for stream in record.get("streams", {}).values():
        _check_rows(stream, num_classes, valid_range, lowest=-1)
    group = record.get("group")
    if num_groups and group is not None and (int(group.min()) < 0 or int(group.max()) >= num_groups):
        raise UserError(f"groups go from {int(group.min())} to {int(group.max())}, outside 0…{num_groups - 1}")


def _check_rows(
    record: Mapping[str, Any], num_classes: int, valid_range: tuple[float, float] | None, lowest: int
) -> None:
    for name in ("x", "label"):
        if not isinstance(record[name], Tensor):
            raise UserError(f"`{name}` of a batch is a {type(record[name]).__name__}; give a tensor")
    x, label = record["x"], record["label"]
    _check_labels(label, num_classes, lowest)
    if len(x) != len(label):
        raise UserError(f"a batch has {len(x)} inputs and {len(label)} labels")
    if x.dtype == torch.uint8:
        return
    if not x.is_floating_point():
        raise UserError(f"inputs are {x.dtype}; give uint8 pictures or floats")
    low, high = (float(value) for value in torch.aminmax(x))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UserError("a batch has inputs that are NaN or infinite")
    if valid_range and (low < valid_range[0] - 1e-6 or high > valid_range[1] + 1e-6):
        raise UserError(
            f"a batch has inputs in {low:.4g}…{high:.4g}, outside the valid range {valid_range[0]:g}…"
            f"{valid_range[1]:g}: normalise inside the model (Classifier(mean=…, std=…)), not in the loader, "
            "or give valid_range"
        )


def _check_labels(label: Tensor, num_classes: int, lowest: int) -> None:
    if label.is_floating_point() or label.ndim != 1:
        raise UserError(f"labels are {label.dtype} of shape {tuple(label.shape)}; give integers of shape [B]")
    low, high = (int(value) for value in torch.aminmax(label))
    if low < lowest or high >= num_classes:
        raise UserError(
            f"labels go from {low} to {high}, outside {lowest}…{num_classes - 1} (num_classes={num_classes})"
        )
