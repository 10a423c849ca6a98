import ast
from importlib import import_module
from pathlib import Path

import pytest

import poise.attacks


def test_every_name_is_there_and_type_checkers_see_the_same() -> None:
    stub = Path(poise.attacks.__file__).with_suffix(".pyi")
    declared = {
        alias.name: node.module
        for node in ast.parse(stub.read_text()).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == poise.attacks._HOMES
    for name, module in declared.items():
        assert getattr(poise.attacks, name) is getattr(import_module(str(module)), name)
        assert name in dir(poise.attacks)


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'poise.attacks' has no attribute 'PDG'"):
        _ = poise.attacks.PDG
