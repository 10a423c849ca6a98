"""Inputs that are read when they are asked for are what a tensor of them would be."""

from collections.abc import Callable

import pytest
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from poise.data.dataset import Arrays, Splits
from poise.data.stored import Stored, changed, positions_of, rows
from poise.errors import UserError
from poise.suspicion import repeated
from poise.tracking.inputs import digest

WHOLE = torch.randint(0, 256, (12, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABEL = torch.arange(12) % 3


class _Counted(Stored):
    """A tensor's rows, and how many were read."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(values.shape, values.dtype)
        self.values, self.read_rows = values, 0

    def read(self, positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B ..."]:
        self.read_rows += len(positions)
        return self.values[positions]


def _coloured(x: Tensor, position: Tensor) -> Tensor:
    """Three channels of floats, the first of them by position."""
    shade = (position % 2).float()[:, None, None, None].expand(-1, 1, 3, 3)
    return torch.cat([shade, x / 255.0, x / 255.0], dim=1)


@pytest.mark.parametrize("chosen", [slice(2, 9, 3), torch.tensor([3, -1, 3]), LABEL == 1, torch.empty(0).long()])
def test_rows_are_a_tensors(chosen: slice | Tensor) -> None:
    assert torch.equal(_Counted(WHOLE)[chosen], WHOLE[chosen])


def test_a_view_reads_nothing_and_views_nest() -> None:
    stored = _Counted(WHOLE)
    data = Arrays(stored, LABEL).rows(torch.tensor([7, 2, 5, 9])).rows(torch.tensor([True, False, True, True]))
    assert (len(data), data.x.shape, stored.read_rows) == (3, (3, 1, 3, 3), 0)
    batch = data.fetch(torch.tensor([2, 0]))
    assert torch.equal(batch["x"], WHOLE[[9, 7]])
    assert batch["label"].tolist() == [0, 1]
    assert stored.read_rows == 2


@pytest.mark.parametrize("order", [torch.arange(12), torch.tensor([11, 4, 4, 0])])
def test_a_change_is_the_same_at_once_and_at_reading(order: Tensor) -> None:
    at_once, lazily = (Arrays(x, LABEL).changed(_coloured) for x in (WHOLE, _Counted(WHOLE)))
    assert isinstance(at_once.x, Tensor)
    assert (lazily.x.shape, lazily.x.dtype) == (at_once.x.shape, at_once.x.dtype) == ((12, 3, 3, 3), torch.float32)
    assert torch.equal(lazily.x[order], at_once.x[order])
    # a view of what is changed keeps each row's change, a change of a view counts from the view's first row
    view = lazily.rows(order)
    assert torch.equal(view.x[:], at_once.rows(order).x[:])
    over = [changed(rows(x, order), _coloured)[:] for x in (WHOLE, _Counted(WHOLE))]
    assert torch.equal(*over)


def test_a_change_of_nothing_has_its_shape() -> None:
    for x in (WHOLE[:0], _Counted(WHOLE[:0])):
        assert changed(x, _coloured).shape == (0, 3, 3, 3)


@pytest.mark.parametrize("position", [12, -13])
def test_a_position_outside_is_an_error(position: int) -> None:
    with pytest.raises(IndexError, match="of 12 rows"):
        positions_of(torch.tensor([0, position]), 12)


def test_splits_take_them_and_read_next_to_nothing() -> None:
    stored = _Counted(WHOLE.repeat(100, 1, 1, 1))
    data = Arrays(stored, LABEL.repeat(100))
    splits = Splits(train=data, val=data, calibration=data, test=data, num_classes=3)
    assert splits.input_shape == (1, 3, 3)
    assert stored.read_rows == 0
    bad = data.changed(lambda x, position: x / 100.0)
    with pytest.raises(UserError, match=r"test: x\[0\] holds values from .* outside the valid range"):
        Splits(train=data, val=data, calibration=data, test=bad, num_classes=3)


@pytest.mark.parametrize("of", [digest, lambda data: repeated(data.rows(LABEL == 0), data)])
def test_what_looks_at_all_rows_sees_the_same(of: Callable[[Arrays], str]) -> None:
    assert of(Arrays(_Counted(WHOLE), LABEL)) == of(Arrays(WHOLE, LABEL)) != ""
