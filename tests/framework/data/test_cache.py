"""Pictures are decoded once, into a file that is whole or not there; or at every reading, to the same bytes."""

import io
import json
import logging
import os
import re
import signal
import threading
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor

from poise.data.cache import MANIFEST, PICTURES, Mapped, read_pictures
from poise.data.decoding import Decoded, Gallery
from poise.data.picture_files import Form
from poise.errors import UserError
from ranks import Pair

COUNT = 150  # more than two chunks
DECODING = "decoding "


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 5 x 4 pixels, of which no two are the same."""
    place = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(_pixels().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(place / f"{number:03}.png")
    return place


def _pixels() -> Tensor:
    return torch.randint(0, 256, (COUNT, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _gallery(folder: Path, **form: int) -> Gallery:
    return Gallery(folder, [f"{number:03}.png" for number in range(COUNT)], Form(**form))


def _only(home: Path) -> Path:
    (place,) = [place for place in home.iterdir() if place.is_dir()]
    return place


def test_the_second_reading_decodes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again = (read_pictures(_gallery(folder), tmp_path, 1.0) for _ in range(2))
    assert isinstance(first, Mapped)
    assert torch.equal(first[:], _pixels())
    assert torch.equal(again[:], _pixels())
    assert capsys.readouterr().out == f"decoding {COUNT} pictures of {folder}, once, into {_only(tmp_path)}\n"


def test_rows_are_memory_of_their_own(folder: Path, tmp_path: Path) -> None:
    pictures = read_pictures(_gallery(folder), tmp_path, 1.0)
    pictures[:3].zero_()
    assert torch.equal(pictures[:3], _pixels()[:3])


@pytest.mark.parametrize("home", ["cache", "file/cache"])
def test_without_a_cache_the_bytes_are_the_same(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, home: str
) -> None:
    (tmp_path / "file").touch()
    limit = 0.0 if home == "cache" else 1.0
    for form in ({}, {"channels": 1}, {"size": 3}):
        pictures = read_pictures(_gallery(folder, **form), tmp_path / home, limit)
        assert isinstance(pictures, Decoded)
        cached = read_pictures(_gallery(folder, **form), tmp_path / "other", 1.0)
        order = torch.tensor([7, 149, 7, 0])
        assert (pictures.shape, pictures.dtype) == (cached.shape, cached.dtype)
        assert torch.equal(pictures[order], cached[order])
        assert torch.equal(pictures[:0], cached[:0])
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    reason = "above data.cache_limit=0" if home == "cache" else "no cache can be written in .*: Not a directory"
    assert len(warnings) == 3
    assert all(re.search(reason, warning) for warning in warnings)
    assert not (tmp_path / "cache").exists()


def test_what_has_no_room_is_not_begun(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = read_pictures(_gallery(folder, size=10**6), tmp_path / "cache", 1e9)
    assert isinstance(pictures, Decoded)
    assert f"a cache of 4.5e+05 GB has no room in {tmp_path / 'cache'}, where " in caplog.text
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["start", "between", "end", "cut", "manifest", "no manifest", "no pictures"])
def test_a_damaged_cache_is_made_again(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    read_pictures(_gallery(folder), tmp_path, 1.0)
    place = _only(tmp_path)
    match damage:
        case "start" | "between" | "end":
            with (place / PICTURES).open("r+b") as file:
                file.seek({"start": 0, "between": 75 * 60, "end": COUNT * 60 - 5}[damage])
                file.write(b"\0" * 5)
        case "cut":
            os.truncate(place / PICTURES, 100)
        case "manifest":
            (place / MANIFEST).write_text("[]")
        case "no manifest":
            (place / MANIFEST).unlink()
        case _:
            (place / PICTURES).unlink()
    assert torch.equal(read_pictures(_gallery(folder), tmp_path, 1.0)[:], _pixels())
    assert f"the cache {place} is damaged: it is made again" in caplog.text


def test_what_changes_the_bytes_changes_the_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    gallery = Gallery(tmp_path, ["a.png", "b.png"], Form())
    home = tmp_path / "cache"
    read_pictures(gallery, home, 1.0)
    first = _only(home)
    Image.fromarray(pixels + 1).save(tmp_path / "b.png")
    os.utime(tmp_path / "b.png", ns=(0, 0))
    assert read_pictures(gallery, home, 1.0)[:].flatten(1).amax(1).tolist() == [0, 1]
    assert f"{first} holds them as they were, or in another form: delete it" in capsys.readouterr().out
    assert read_pictures(gallery._replace(files=["b.png", "a.png"]), home, 1.0)[:].flatten(1).amax(1).tolist() == [1, 0]
    assert read_pictures(gallery._replace(form=Form(channels=1)), home, 1.0).shape == (2, 1, 4, 4)


def _has_pictures(file: Path) -> bool:
    with file.open("rb") as opened:
        return any(opened.read(1000))


def _interrupt_when_begun(home: Path) -> None:
    """Ctrl-C, once pictures have been written."""
    while not any(map(_has_pictures, home.glob(f"*.part/{PICTURES}"))):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_cache_that_is_interrupted_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    gallery = _gallery(folder)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    threading.Thread(target=_interrupt_when_begun, args=[tmp_path], daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        read_pictures(gallery._replace(files=[*gallery.files] * 100, form=Form(size=64)), tmp_path, 1.0)
    signal.signal(signal.SIGINT, before)
    assert [place.suffix for place in tmp_path.iterdir()] == [".lock"]
    assert torch.equal(read_pictures(gallery, tmp_path, 1.0)[:], _pixels())


def test_what_a_killed_process_left_is_cleared(folder: Path, tmp_path: Path) -> None:
    read_pictures(_gallery(folder), tmp_path, 1.0)
    place = _only(tmp_path)
    place.rename(place.with_name(f"{place.name}.part"))
    assert torch.equal(read_pictures(_gallery(folder), tmp_path, 1.0)[:], _pixels())
    assert _only(tmp_path) == place


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_broken_pictures_are_named(tmp_path: Path, limit: float) -> None:
    for name in "abcd":
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
    for name in "bd":
        (tmp_path / f"{name}.png").write_bytes(b"broken")
    gallery = Gallery(tmp_path, [f"{name}.png" for name in "abcd"], Form())
    count = "2 of 4 pictures cannot be read: " if limit else ""
    with pytest.raises(UserError, match=f"{count}.*b.png.*this is no picture"):
        read_pictures(gallery, tmp_path / "cache", limit)[:]
    with pytest.raises(UserError, match="none of 1 pictures can be read: .*d.png: this is no picture"):
        read_pictures(gallery._replace(files=["d.png"]), tmp_path / "cache", limit)


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_pictures_of_several_sizes_are_named(tmp_path: Path, limit: float) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (3, 4)).save(tmp_path / "b.png")
    gallery = Gallery(tmp_path, ["a.png", "b.png"], Form())
    with pytest.raises(UserError, match=r"a.png is 6 x 4, .*b.png 3 x 4. Give data.size=4"):
        read_pictures(gallery, tmp_path / "cache", limit)[:]
    assert read_pictures(gallery._replace(form=Form(size=4)), tmp_path / "cache", limit)[:].shape == (2, 3, 4, 4)


def _read_at_once(folder: str, home: str) -> tuple[int, Tensor]:
    """How often this rank decoded, and what it read."""
    dist.barrier()
    with redirect_stdout(io.StringIO()) as said:
        pictures = read_pictures(_gallery(Path(folder)), Path(home), 1.0)
    return said.getvalue().count(DECODING), pictures[:]


def test_of_two_ranks_one_decodes(folder: Path, tmp_path: Path, pair: Pair) -> None:
    for turn in range(3):
        (first, x), (second, y) = pair.run(_read_at_once, str(folder), str(tmp_path / str(turn)))
        assert first + second == 1
        assert torch.equal(x, _pixels())
        assert torch.equal(y, _pixels())
    assert json.loads((_only(tmp_path / "0") / MANIFEST).read_text())["folder"] == str(folder)


def _memory_of(file: str) -> dict[str, int]:
    """Bytes of a mapped file that are in memory for this process: all of them, and its share of them."""
    found = {"Rss": 0, "Pss": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = bool(rest) and rest[-1] == file
        elif inside and name[:-1] in found:
            found[name[:-1]] += 1024 * int(rest[0])
    return found


def _hold(folder: str, home: str) -> dict[str, int]:
    """In a rank: the memory of the pictures once every rank has read them all."""
    pictures = read_pictures(_gallery(Path(folder), size=128), Path(home), 1.0)
    pictures[:]
    dist.barrier()
    found = _memory_of(str(_only(Path(home)) / PICTURES))
    dist.barrier()
    assert len(pictures) == COUNT  # they are mapped until here
    return found


def test_the_ranks_of_a_machine_hold_its_pictures_once(folder: Path, tmp_path: Path, pair: Pair) -> None:
    size = COUNT * 3 * 128 * 128
    first, second = pair.run(_hold, str(folder), str(tmp_path))
    assert first["Rss"] >= size
    assert second["Rss"] >= size
    assert size <= first["Pss"] + second["Pss"] < 1.01 * size
