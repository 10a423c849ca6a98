"""Each corruption against another's code or by hand, and what all of them keep to."""

import colorsys
import typing
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor

from poise.data.corruptions.draws import Draws
from poise.data.corruptions.kinds import KINDS
from poise.data.dataset import Arrays
from poise.data.keys import generator
from poise.data.wrappers.corruptions import Corruptions
from poise.errors import UserError
from small_runs import rows, splits

SEVERITIES = (1, 2, 3, 4, 5)


def pictures(channels: int = 3, count: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    """Pictures of small squares."""
    noise = torch.rand(count, channels, 4, 4, generator=generator("corruptions"), dtype=dtype)
    return noise.repeat_interleave(4, 2).repeat_interleave(4, 3)


def draws(x: Tensor) -> Draws:
    return Draws("any", torch.arange(len(x)), x)


def seen(kind: str, x: Tensor, severity: int) -> Tensor:
    return KINDS[kind](x, severity, draws(x)).clamp(0, 1)


def each(x: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """Every picture [H, W, C] changed."""
    return torch.from_numpy(np.stack([change(one.permute(1, 2, 0).numpy()) for one in x])).permute(0, 3, 1, 2)


def test_a_config_can_name_every_kind_and_no_other() -> None:
    kinds = typing.get_type_hints(Corruptions.__init__)["kinds"]
    assert typing.get_args(typing.get_args(kinds)[0]) == tuple(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_keep_shape_type_and_range_and_get_worse(kind: str) -> None:
    for channels in (1, 3):
        for dtype in (torch.float32, torch.float64):
            x = pictures(channels, dtype=dtype)
            before = x.clone()
            made = KINDS[kind](x, 3, draws(x))
            assert (made.shape, made.dtype) == (x.shape, dtype)
            assert bool(torch.isfinite(made).all())
            assert x.equal(before)
    if kind != "saturate":  # the first two severities take colour away, the others add some
        x = F.interpolate(torch.rand(40, 3, 4, 4, generator=generator("smooth")), size=32, mode="bilinear")
        change = [float((seen(kind, x, severity) - x).square().mean()) for severity in SEVERITIES]
        assert 0 < change[0] < change[2] < change[4]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_is_scipys(severity: int) -> None:
    x, sigma = pictures(), (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    expected = each(x, lambda one: ndimage.gaussian_filter(one, (sigma, sigma, 0), mode="nearest", truncate=4.0))
    torch.testing.assert_close(seen("gaussian_blur", x, severity), expected, rtol=0, atol=1e-12)


def test_zooming_is_scipys() -> None:
    def zoomed(one: np.ndarray) -> np.ndarray:
        whole = one.copy()
        for factor in 1 + np.arange(7) / 100 + 1e-12:
            side = int(np.ceil(16 / factor))
            first = (16 - side) // 2
            middle = one[first : first + side, first : first + side]
            large = ndimage.zoom(middle, (factor, factor, 1), order=1)
            first = (len(large) - 16) // 2
            whole += large[first : first + 16, first : first + 16]
        return whole / 8

    x = pictures()
    torch.testing.assert_close(seen("zoom_blur", x, 1), each(x, zoomed), rtol=0, atol=1e-9)


def test_a_disk_spreads_a_point_and_keeps_its_light() -> None:
    point = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    point[0, 0, 4, 4] = 1
    spread = seen("defocus_blur", point, 4)[0, 0]
    assert float(spread.sum()) == pytest.approx(1)
    assert spread.equal(spread.T)
    assert spread[4, 3:6].tolist() == pytest.approx([0.2] * 3, abs=1e-4)  # the five pixels of a disk of radius 1
    assert float(spread[3, 3]) < 1e-4


def test_a_trail_fades_along_a_line() -> None:
    point = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    point[0, 0, 15, 15] = 1
    trail = seen("motion_blur", point, 1)[0, 0]
    assert float(trail.sum()) == pytest.approx(1)
    weight = np.exp(-(np.arange(13.0) ** 2) / 2)
    assert float(trail[15, 15]) >= weight[0] / weight.sum() - 1e-12
    down, across = trail.nonzero().T - 15
    assert int(across.max()) == 0  # a pixel is what lies to its right
    assert bool((down.abs() <= across.abs() + 1).all())
    flat = torch.full((2, 3, 8, 8), 0.4, dtype=torch.float64)
    torch.testing.assert_close(seen("motion_blur", flat, 5), flat)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturation_are_those_of_hsv(severity: int) -> None:
    x = pictures()
    x[0], x[1] = 0.0, 0.5
    more = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    factor, depth = ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2))[severity - 1]

    def brighter(h: float, s: float, v: float) -> tuple[float, float, float]:
        return h, s, min(1.0, v + more)

    def richer(h: float, s: float, v: float) -> tuple[float, float, float]:
        return h, min(1.0, factor * s + depth), v

    for kind, change in (("brightness", brighter), ("saturate", richer)):

        def changed(one: np.ndarray, change: Callable[..., tuple[float, ...]] = change) -> np.ndarray:
            pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*pixel))) for pixel in one.reshape(-1, 3)]
            return np.array(pixels).reshape(one.shape)

        torch.testing.assert_close(seen(kind, x, severity), each(x, changed), rtol=0, atol=1e-12)


def test_contrast_keeps_the_means() -> None:
    x = pictures()
    made = KINDS["contrast"](x, 5, draws(x))
    torch.testing.assert_close(made.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(made.std((2, 3)), 0.15 * x.std((2, 3)))


def test_noise_is_as_strong_as_it_says() -> None:
    x = torch.full((40, 3, 16, 16), 0.5, dtype=torch.float64)
    for kind, spread in {"gaussian_noise": 0.08, "speckle_noise": 0.06, "shot_noise": (0.5 / 100) ** 0.5}.items():
        made = KINDS[kind](x, 3, draws(x))
        assert float(made.mean()) == pytest.approx(0.5, abs=5 * spread / x.numel() ** 0.5)
        assert float(made.std()) == pytest.approx(spread, rel=0.02)
    broken = KINDS["impulse_noise"](x, 5, draws(x))
    for value in (0.0, 1.0):
        assert float((broken == value).double().mean()) == pytest.approx(0.035, abs=0.006)


def test_fog_is_thicker_in_some_places_and_whitest_at_the_brightest() -> None:
    x = pictures()
    made = KINDS["fog"](x, 3, draws(x))
    assert bool((made.amax((1, 2, 3)) <= x.amax((1, 2, 3)) + 1e-12).all())
    cloud = made * (x.amax((1, 2, 3), keepdim=True) + 0.75) / x.amax((1, 2, 3), keepdim=True) - x
    assert float(cloud.min()) >= -1e-12
    assert float(cloud.max()) <= 0.75 + 1e-12
    assert float((cloud[:, 0] - cloud[:, 2]).abs().max()) < 1e-12
    assert bool((cloud.std((2, 3)) > 0.01).all())


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_pils(channels: int) -> None:
    x = (255 * pictures(channels)).round() / 255
    size = (16, 16) if channels == 1 else (16, 16, 3)
    one = Image.fromarray((255 * x[2]).round().to(torch.uint8).permute(1, 2, 0).reshape(size).numpy())
    file = BytesIO()
    one.save(file, "JPEG", quality=58)
    coarse = one.resize((13, 13), Image.Resampling.BOX).resize((16, 16), Image.Resampling.BOX)
    for kind, expected in {"jpeg_compression": Image.open(file), "pixelate": coarse}.items():
        made = (255 * seen(kind, x, 3)[2]).round().permute(1, 2, 0).reshape(size)
        assert made.equal(torch.from_numpy(np.array(expected)).double())


def test_shifts_are_read_by_rows_and_depend_on_place_and_seed() -> None:
    levels = (255 * rows(30, 1).x).to(torch.uint8)
    data = splits(**{name: Arrays(levels, rows(30, 1).label) for name in ("train", "val", "calibration", "test")})
    wrapper = Corruptions(("gaussian_noise", "shot_noise", "fog", "jpeg_compression"), (1, 3))
    made = wrapper.wrap(data, 0)
    assert list(made.shifts) == [
        f"{kind}-{severity}"
        for kind in ("gaussian_noise", "shot_noise", "fog", "jpeg_compression")
        for severity in (1, 3)
    ]
    assert made.test is data.test
    for name, shift in made.shifts.items():
        whole = shift.x[:]
        assert whole.dtype == torch.uint8
        assert shift.label.equal(data.test.label)
        some = torch.tensor([29, 3, 3])
        assert shift.x[some].equal(whole[some])
        assert shift.rows(torch.tensor([5, 29])).x[torch.tensor([1])].equal(whole[29:])
        assert wrapper.wrap(data, 0).shifts[name].x[:].equal(whole)
        assert wrapper.wrap(data, 1).shifts[name].x[:].equal(whole) == name.startswith("jpeg")


def test_what_cannot_be_corrupted_is_refused() -> None:
    data = splits()
    flat = {name: Arrays(split.x.flatten(1), split.label) for name, split in data.main.items()}
    with pytest.raises(UserError, match=r"corruptions is for pictures of 1 or 3 channels; these data are tabular of s"):
        Corruptions().wrap(splits(**flat, kind="tabular", valid_range=None), 0)
    with pytest.raises(UserError, match="corruptions needs pictures in 0 to 1 of 4 × 4 pixels or more"):
        Corruptions().wrap(splits(valid_range=(-1.0, 1.0)), 0)
    small = {name: Arrays(split.x[:, :, :3], split.label) for name, split in data.main.items()}
    with pytest.raises(UserError, match="pictures in 0 to 1 of 4 × 4 pixels or more"):
        Corruptions().wrap(splits(**small), 0)
    with pytest.raises(UserError, match="the data have a shift 'fog-3' already: leave it out of kinds"):
        Corruptions().wrap(splits(shifts={"fog-3": rows(9, 4)}), 0)
