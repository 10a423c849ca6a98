"""Which pictures have the colour of their class, and how they look in it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.data.colors import correlated
from poise.data.dataset import Arrays
from poise.data.keys import generator
from poise.data.wrappers.spurious_color import SpuriousColor
from poise.errors import UserError
from small_runs import rows, splits


def with_x(split: Arrays, x: torch.Tensor) -> Arrays:
    return Arrays(x, split.label, split.group)


def test_colours_go_along_in_training_and_not_in_test() -> None:
    data = splits(shifts={"more": rows(30, 5)}, streams={"unlabelled": rows(9, 6)}, ood={"odd": rows(9, 7)})
    made = SpuriousColor(correlation=1.0, test_correlation=-1.0).wrap(data, 0)
    assert made.group_names == ("a,red", "a,green", "b,red", "b,green", "c,red", "c,green")
    for name, split in {**made.main, **made.shifts}.items():
        before = {**data.main, **data.shifts}[name]
        own = (before.label % 2) ^ (name in ("test", "more"))
        assert split.label.equal(before.label)
        assert split.group is not None
        assert split.group.equal(2 * split.label + own)
        expected = torch.zeros(len(before), 3, 8, 8)
        expected[torch.arange(len(before)), own] = before.x[:, 0]
        assert split.x.equal(expected)
    for split in (made.streams["unlabelled"], made.ood["odd"]):
        assert split.x.shape == (9, 3, 8, 8)
        assert split.group is None


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.floats(0.0, 1.0), st.integers(0, 2**32 - 1))
def test_the_share_of_own_colours_is_what_the_correlation_says(count: int, strength: float, seed: int) -> None:
    correlation = -1 / (count - 1) + strength * count / (count - 1)
    own = torch.arange(6000) % count
    color = correlated(own, count, correlation, generator(seed))
    expected = (1 + (count - 1) * correlation) / count
    assert float((color == own).double().mean()) == pytest.approx(expected, abs=0.035)
    others = color[color != own]
    if len(others) > 3000:
        assert (others.bincount(minlength=count) / len(others)).tolist() == pytest.approx([1 / count] * count, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_a_weak_tint_leaves_some_of_the_other_light_and_keeps_the_type(dtype: torch.dtype) -> None:
    data = splits()
    full = 255 if dtype == torch.uint8 else 1
    bright = {n: with_x(split, torch.full((len(split), 3, 2, 2), full, dtype=dtype)) for n, split in data.main.items()}
    made = SpuriousColor(correlation=1.0, strength=0.25).wrap(replace(data, **bright), 0)
    assert made.train.x.dtype == dtype
    first = made.train.x[0, :, 0, 0].double() / full
    assert first.tolist() == pytest.approx([1.0, 0.75, 0.75], abs=0.003)


def test_what_cannot_be_tinted_is_refused() -> None:
    with pytest.raises(UserError, match=r"spurious_color\.test_correlation=-0\.6: with 3 colours -0\.5 is the least"):
        SpuriousColor(test_correlation=-0.6, colors=3)
    data = splits()
    flat = {name: with_x(split, split.x.flatten(1)) for name, split in data.main.items()}
    with pytest.raises(UserError, match=r"is for pictures of 1 or 3 channels; these data are tabular of shape 64\."):
        SpuriousColor().wrap(replace(data, **flat, kind="tabular"), 0)
    four = {name: with_x(split, split.x.repeat(1, 4, 1, 1)) for name, split in data.main.items()}
    with pytest.raises(UserError, match=r"these data are image of shape 4 × 8 × 8\."):
        SpuriousColor().wrap(replace(data, **four), 0)
