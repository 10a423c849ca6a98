"""A picture from a file is what torchvision makes of it, upright."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from poise.data.picture_files import BrokenPictureError, Form, decode

NOISE = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)


def _saved(place: Path, picture: Image.Image, **settings: Any) -> Path:
    picture.save(place, **settings)
    return place


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "ppm", "jpg"])
def test_every_format_is_read(tmp_path: Path, ending: str) -> None:
    settings: dict[str, Any] = {"lossless": True} if ending == "webp" else {}
    file = _saved(tmp_path / f"é 漢.{ending}", Image.fromarray(NOISE[:5, :7]), **settings)
    pixels = decode(file, Form())
    assert pixels.shape == (3, 5, 7)
    assert pixels.dtype == np.uint8
    expected = np.asarray(Image.open(file)) if ending == "jpg" else NOISE[:5, :7]
    assert np.array_equal(pixels, expected.transpose(2, 0, 1))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 20))
def test_resized_and_cut_as_torchvision_does_it(width: int, height: int, size: int, margin: int) -> None:
    picture = Image.fromarray(NOISE[:height, :width])
    expected = Compose([Resize(size + margin), CenterCrop(size)])(picture)
    with tempfile.TemporaryDirectory() as folder:
        pixels = decode(_saved(Path(folder, "a.ppm"), picture), Form(size=size, resize=size + margin))
    assert np.array_equal(pixels, np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_colours_or_grey(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(NOISE[:6, :4]).convert(mode)
    file = _saved(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), picture)
    with Image.open(file) as opened:
        colours, grey = (np.asarray(opened.convert(to)) for to in ("RGB", "L"))
    assert np.array_equal(decode(file, Form()), colours.transpose(2, 0, 1))
    assert np.array_equal(decode(file, Form(channels=1)), grey[None])


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4096 + 255
    file = _saved(tmp_path / "a.png", Image.fromarray(values))
    assert np.array_equal(decode(file, Form(channels=1))[0], values // 256)


def test_a_camera_held_upright_gives_an_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    file = _saved(tmp_path / "a.png", Image.fromarray(NOISE[:4, :8]), exif=exif)
    assert np.array_equal(decode(file, Form()), np.rot90(NOISE[:4, :8], -1).transpose(2, 0, 1))


def test_a_broken_note_of_a_camera_breaks_no_picture(tmp_path: Path) -> None:
    file = _saved(tmp_path / "a.png", Image.fromarray(NOISE[:4, :8]), exif=b"Exif\x00\x00no TIFF at all")
    assert np.array_equal(decode(file, Form()), NOISE[:4, :8].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "this is no picture"),
        (b"no picture", "this is no picture"),
        (lambda whole: whole[: len(whole) // 2], "truncated"),
        (None, "No such file or directory"),
    ],
)
def test_what_is_no_whole_picture_says_why(tmp_path: Path, content: object, reason: str) -> None:
    file = tmp_path / "a.jpg"
    if callable(content):
        file.write_bytes(content(_saved(file, Image.fromarray(NOISE)).read_bytes()))
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(BrokenPictureError, match=reason):
        decode(file, Form())


def test_floats_are_refused(tmp_path: Path) -> None:
    values = Image.fromarray(np.ones((4, 4), np.float32))
    values.save(tmp_path / "a.ppm", "tiff")
    with pytest.raises(BrokenPictureError, match="32 bits"):
        decode(tmp_path / "a.ppm", Form())
