import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from poise.errors import UserError
from poise.files.arrays import read_npy, read_npz


def test_arrays_come_as_they_were_saved(tmp_path: Path) -> None:
    kept = {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["one", "two"]), "none": np.zeros((0, 3), np.uint8)}
    np.savez(tmp_path / "some.npz", **kept)
    np.savez_compressed(tmp_path / "small.npz", **kept)
    np.save(tmp_path / "one.npy", kept["a"])
    for name in ("some.npz", "small.npz"):
        found = read_npz(str(tmp_path / name), "x")
        assert list(found) == list(kept)
        for key, value in kept.items():
            np.testing.assert_array_equal(found[key], value)
            assert found[key].dtype == value.dtype
    np.testing.assert_array_equal(read_npy(str(tmp_path / "one.npy"), "x"), kept["a"])


def saved(array: np.ndarray, pickled: bool = False) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=pickled)
    return written.getvalue()


HUGE = saved(np.zeros(3)).replace(b"(3,)", b"(3" + b"0" * 15 + b",)").replace(b" " * 15 + b"\n", b"\n")
BROKEN = r"^logits=bad.npz is not a whole .npz file of plain arrays: "


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no array at all", f"{BROKEN}.*'a' is none"),
        (saved(np.zeros(3))[:-4], BROKEN),
        (saved(np.array([{}]), pickled=True), "logits=bad.npz holds an array of Python objects, which may run code"),
        (HUGE, BROKEN),
    ],
)
def test_an_archive_of_something_else_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("a.npy", data)
    with pytest.raises(UserError, match=reason) as caught:
        read_npz(str(tmp_path / "bad.npz"), "logits=bad.npz")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for read in (read_npz, read_npy):
        with pytest.raises(UserError, match="x=y: there is no such file"):
            read(str(tmp_path / "missing"), "x=y")
        with pytest.raises(UserError, match="x=y: this is a directory"):
            read(str(tmp_path), "x=y")
