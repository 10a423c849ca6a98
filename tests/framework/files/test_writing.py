from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from poise.errors import UserError
from poise.files.columns import read_columns
from poise.files.writing import write_csv, write_npz


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = [["a, b", 0.1], ['"', 1e-300], ["two\nlines", 2.0]]
    write_csv(str(tmp_path / "t.csv"), ["name", "value"], rows)
    found = read_columns(str(tmp_path / "t.csv"), "t", "name,value")
    assert found.texts("name") == [name for name, _ in rows]
    assert found.numbers(["value"])[:, 0].tolist() == [value for _, value in rows]
    assert found.lines == [2, 3, 5]
    write_npz(str(tmp_path / "t.npz"), {"x": np.eye(2)})
    np.testing.assert_array_equal(np.load(tmp_path / "t.npz")["x"], np.eye(2))


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[list[int]]:
        yield [1]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_csv(str(tmp_path / "t.csv"), ["a"], rows())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["n" * 251 + ".npz", "ß" * 125 + ".npz"])
def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path, name: str) -> None:
    write_npz(str(tmp_path / name), {"x": np.eye(2)})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(UserError, match="cannot be written: File name too long"):
        write_npz(str(tmp_path / f"too{name}"), {"x": np.eye(2)})
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    path.write_text("mine")
    with pytest.raises(UserError, match=f"out={path} cannot be written: {path} is there by now"):
        write_npz(str(path), {"x": np.eye(2)})
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
