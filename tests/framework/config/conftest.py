from collections.abc import Callable
from pathlib import Path

import pytest

from poise.config import presets

Write = Callable[[str, str], None]


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a preset beside those that come with poise."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for name in presets.names():
        (folder / f"{name}.yaml").write_text(presets.text(name), encoding="utf-8")
    monkeypatch.setattr(presets, "folder", lambda name: folder)
    return lambda name, text: (folder / f"{name}.yaml").write_text(text, encoding="utf-8") and None
