import sys

import pytest

from poise.progress import room


@pytest.mark.parametrize(("terminal", "told"), [(True, 77), (False, None)])
def test_only_a_terminal_has_lines_of_a_length(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, told: int | None
) -> None:
    monkeypatch.setenv("COLUMNS", "77")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert room() == told
