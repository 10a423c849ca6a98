import os
from pathlib import Path

import pytest

from poise import kept
from poise.errors import UserError


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.json"
    file.write_text("before")
    partial = tmp_path / "report.json.partial"
    seen: list[tuple[str, str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append((partial.read_text(), file.read_text())))
    kept.write_text(file, "now")
    assert seen == [("now", "before")]
    assert file.read_text() == "now"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "empty"), (b" \n", "empty"), (b"{", "no JSON"), (b"[]", "no mapping"), (b"\xff", "no text")],
)
def test_what_does_not_say_what_it_should_is_named(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "some.json").write_bytes(content)
    with pytest.raises(UserError, match=f"some.json is damaged: this is {what}; do this$"):
        kept.read_mapping(tmp_path / "some.json", "do this")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"some\.json is damaged: No such file or directory; do this$"):
        kept.read_mapping(tmp_path / "some.json", "do this")
