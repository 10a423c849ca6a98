"""Packages written for one test."""

import sys
import textwrap
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from poise import registry
from poise.registry import catalogue

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file below a folder that Python searches; what it holds is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    registry.refresh()

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        registry.refresh()

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    registry.refresh()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a package under the entry point group of recipes, beside the installed ones."""
    found = [EntryPoint("poise", "poise_recipes", "poise.recipes")]
    monkeypatch.setattr(catalogue, "entry_points", lambda: EntryPoints(found))

    def add(package: str) -> None:
        found.append(EntryPoint("other", package, "poise.recipes"))
        registry.refresh()

    yield add
    registry.refresh()
