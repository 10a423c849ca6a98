"""Each augmentation against what it says, by hand or by torchvision; all of them against the laws of their kind."""

import pytest
import torch
import torchvision.transforms.functional as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms import RandomResizedCrop as Published

from poise import registry
from poise.data.augmentation import Augmentation
from poise.data.augmentations.color_jitter import ColorJitter
from poise.data.augmentations.cutout import Cutout
from poise.data.augmentations.flip import Flip
from poise.data.augmentations.pad_crop import PadCrop
from poise.data.augmentations.random_resized_crop import RandomResizedCrop, boxes
from poise.data.keys import generator
from poise.errors import UserError

NAMES = sorted(registry.records("augmentation"))
LAST = 1 - 2**-24  # the largest draw in float32


def pictures(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator("pictures", seed), dtype=dtype)


def draws(member: Augmentation, rows: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.rand(rows, member.draws, generator=generator("draws", seed), dtype=dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7)])
def test_pictures_keep_shape_type_and_range_and_are_changed_one_by_one(
    name: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    member = registry.build("augmentation", name)
    x, u = pictures(40, *shape, dtype=dtype), draws(member, 40, dtype)
    u[0], u[1] = 0.0, LAST
    before = x.clone()
    made = member.apply(x, u)
    assert (made.shape, made.dtype) == (x.shape, dtype)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert not made.equal(x)
    assert x.equal(before)
    for part in (slice(0, 7), slice(7, 40)):
        torch.testing.assert_close(member.apply(x[part], u[part]), made[part], rtol=0, atol=1e-6)
    torch.testing.assert_close(member.apply(x.to(memory_format=torch.channels_last), u), made, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_waits_for_the_device_and_nothing_leaves_it(name: str) -> None:
    """Fake tensors refuse what needs a value on the host, and operations across devices."""
    member = registry.build("augmentation", name)
    with FakeTensorMode():
        x = torch.empty(4, 3, 8, 8, device="cuda")
        made = member.apply(x, torch.empty(4, member.draws, device="cuda"))
    assert made.device == x.device


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_does_not_reach_pixels(name: str) -> None:
    member = registry.build("augmentation", name)
    x, u = pictures(8, 3, 8, 8), draws(member, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = member.apply(x, u)
    assert made.equal(member.apply(x, u))


def test_flipping_twice_changes_nothing() -> None:
    x, always = pictures(5, 3, 4, 6), Flip(p=1.0)
    once = always.apply(x, draws(always, 5))
    assert once.equal(x.flip(3))
    assert always.apply(once, draws(always, 5)).equal(x)
    assert Flip(p=0.0).apply(x, torch.zeros(5, 1)).equal(x)
    assert (
        Flip(p=0.5)
        .apply(x, torch.tensor([[0.0], [0.4], [0.5], [0.6], [LAST]]))
        .equal(torch.cat([x[:2].flip(3), x[2:]]))
    )


@pytest.mark.parametrize("padding", [1, 2, 4, 5])
def test_every_crop_is_the_slice_at_its_corner(padding: int) -> None:
    member, places = PadCrop(padding), 2 * padding + 1
    corners = torch.cartesian_prod(torch.arange(places), torch.arange(places))
    x = pictures(len(corners), 2, 5, 4)
    bordered = torch.zeros(len(x), 2, 5 + 2 * padding, 4 + 2 * padding)
    bordered[:, :, padding : padding + 5, padding : padding + 4] = x
    expected = [bordered[i, :, row : row + 5, column : column + 4] for i, (row, column) in enumerate(corners.tolist())]
    for within in (0.0, 0.5, 0.999):
        assert member.apply(x, (corners + within) / places).equal(torch.stack(expected))
    assert member.apply(x, torch.full((len(x), 2), LAST))[-1].equal(expected[-1])


def test_a_constant_picture_stays_constant_but_for_the_border() -> None:
    x = torch.full((6, 3, 8, 8), 0.7)
    crop, resized = PadCrop(2), RandomResizedCrop()
    values = crop.apply(x, draws(crop, 6)).unique().tolist()
    assert values == pytest.approx([0.0, 0.7])
    assert resized.apply(x, draws(resized, 6)).equal(x)


@pytest.mark.parametrize("size", [None, 5, 12])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_box_is_resized_as_torchvision_does(size: int | None, dtype: torch.dtype, tolerance: float) -> None:
    member = RandomResizedCrop(min_scale=0.02, ratio=3.0, size=size)
    x, u = pictures(60, 3, 11, 8, dtype=dtype), draws(member, 60, dtype)
    places = torch.stack(boxes(u, 11, 8, (0.02, 1.0), (1 / 3, 3.0)), 1).long().tolist()
    expected = [
        reference.resized_crop(one, *place, [size or 11, size or 8], InterpolationMode.BILINEAR, antialias=True)
        for one, place in zip(x, places, strict=True)
    ]
    torch.testing.assert_close(member.apply(x, u), torch.stack(expected), rtol=0, atol=tolerance)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1.0), st.floats(1.0, 5.0), st.integers(0, 2**16))
def test_every_box_lies_in_its_picture(height: int, width: int, least: float, ratio: float, seed: int) -> None:
    u = draws(RandomResizedCrop(), 50, torch.float64, seed)
    top, left, tall, wide = boxes(u, height, width, (least, 1.0), (1 / ratio, ratio))
    assert bool(((top >= 0) & (left >= 0) & (tall >= 1) & (wide >= 1)).all())
    assert bool(((top + tall <= height) & (left + wide <= width)).all())
    for side in (top, left, tall, wide):
        assert side.equal(side.round())


def test_boxes_are_distributed_as_torchvisions() -> None:
    count = 4000
    u = draws(RandomResizedCrop(), count, torch.float64)
    mine = torch.stack(boxes(u, 32, 24, (0.08, 1.0), (3 / 4, 4 / 3)), 1)
    picture = torch.empty(3, 32, 24)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor(
            [Published.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)], dtype=torch.float64
        )
    error = (mine.var(0) + theirs.var(0)).div(count).sqrt()
    assert bool(((mine.mean(0) - theirs.mean(0)).abs() < 4 * error).all())
    torch.testing.assert_close(mine.std(0), theirs.std(0), rtol=0.06, atol=0)


@pytest.mark.parametrize(
    ("height", "width", "middle"), [(4, 40, (0, 18, 4, 4)), (40, 4, (18, 0, 4, 4)), (16, 16, (0, 0, 16, 16))]
)
def test_where_no_box_fits_it_is_the_middle_as_in_torchvision(height: int, width: int, middle: tuple[int, ...]) -> None:
    u = torch.full((1, 22), 0.9, dtype=torch.float64)
    assert tuple(int(side) for side in boxes(u, height, width, (0.99, 1.0), (0.9, 1.1))) == middle
    if height != width:
        assert Published.get_params(torch.empty(1, height, width), [0.99, 1.0], [0.9, 1.1]) == middle


def test_a_smallest_share_above_the_largest_is_refused() -> None:
    with pytest.raises(UserError, match=r"random_resized_crop: min_scale=0\.5 is above max_scale=0\.2"):
        RandomResizedCrop(min_scale=0.5, max_scale=0.2)


def test_cutout_blackens_a_square_that_ends_at_the_border() -> None:
    x = torch.ones(3, 2, 6, 8)
    made = Cutout(size=4).apply(x, torch.tensor([[0.0, 0.0], [0.5, 0.5], [LAST, LAST]]))
    expected = x.clone()
    expected[0, :, :2, :2] = 0
    expected[1, :, 1:5, 2:6] = 0
    expected[2, :, 3:, 5:] = 0
    assert made.equal(expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_light_changes_as_torchvision_does(channels: int) -> None:
    x, member = pictures(6, channels, 5, 5, dtype=torch.float64), ColorJitter(0.5, 0.6, 0.7)
    u = draws(member, 6, torch.float64)
    for before, after, (first, second, third) in zip(x, member.apply(x, u), (2 * u - 1).tolist(), strict=True):
        expected = reference.adjust_brightness(before, 1 + 0.5 * first)
        expected = reference.adjust_contrast(expected, 1 + 0.6 * second)
        if channels == 3:
            expected = reference.adjust_saturation(expected, 1 + 0.7 * third)
        torch.testing.assert_close(after, expected, rtol=0, atol=2e-4)  # torchvision's grey has weights of four digits


@pytest.mark.parametrize(
    ("member", "said"), [(Cutout(8), r"cutout\.size=8 blackens"), (PadCrop(8), r"pad_crop\.padding=8 moves")]
)
def test_pictures_of_which_nothing_is_left_are_refused(member: Augmentation, said: str) -> None:
    member.check(9, 9)
    with pytest.raises(UserError, match=said):
        member.check(9, 8)
