"""Values read by the schema's type, and by nothing else."""

import math
import os
import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from poise.registry.bounds import Bound, holds, in_words, unbound

_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(rf"({_DECIMAL})(?:/({_DECIMAL}))?")

_WORDS: dict[Any, str] = {
    types.NoneType: "none",
    bool: "true or false",
    int: "an integer",
    float: "a number (0.1, 1e-3 or 8/255)",
    str: "a string",
}
_MISMATCH = object()


def convert(raw: Any, hint: Any) -> Any:
    """A value of the type `hint` from text, or from a Python value of that type.

    Raises:
        ValueError: it is none, or beyond its bounds; the message says what would be.
    """
    found = _from_text(raw, hint) if isinstance(raw, str) else _from_python(raw, hint)
    if found is _MISMATCH:
        raise ValueError(f"is not {expected(hint)}")
    return found


def expected(hint: Any) -> str:
    """A type in words, without its bounds."""
    hint, _ = unbound(hint)
    if typing.get_origin(hint) is Literal:
        return " or ".join(str(choice) for choice in typing.get_args(hint))
    if is_list(hint):
        return f"a list, each {expected(typing.get_args(hint)[0])}"
    alternatives = _alternatives(hint)
    if len(alternatives) > 1:
        return " or ".join(map(expected, alternatives))
    return _WORDS[hint]


def words(hint: Any) -> Iterator[str]:
    """The words of a type that has a list of them: Literal, booleans, None; of a list, those of its items."""
    for kind in _alternatives(unbound(hint)[0]):
        if is_list(kind):
            yield from words(typing.get_args(kind)[0])
        if typing.get_origin(kind) is Literal:
            yield from map(str, typing.get_args(kind))
        elif kind is bool:
            yield from ("true", "false")
        elif kind is types.NoneType:
            yield "none"


def bounds_in_words(hint: Any) -> str:
    """The bounds of a type in words, of a union's or list's items too; "" where there are none."""
    inner, bounds = unbound(hint)
    found = [in_words(bounds)] if bounds else [bounds_in_words(part) for part in typing.get_args(inner)]
    return " or ".join(filter(None, found))


def _alternatives(hint: Any) -> list[Any]:
    """The members of a union, those first that few texts belong to, and None last."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        order = (bool, int, float, None, str, types.NoneType)
        plain = {kind: place for place, kind in enumerate(order)}
        return sorted(typing.get_args(hint), key=lambda kind: plain.get(unbound(kind)[0], plain[None]))
    return [hint]


def is_list(hint: Any) -> bool:
    """Whether values of a type are several of one kind."""
    return typing.get_origin(hint) in (list, tuple)


def _from_text(text: str, hint: Any) -> Any:
    alternatives = _alternatives(hint)
    if types.NoneType in alternatives and text == "none":
        return None
    for kind in alternatives:
        found = _one_from_text(text, kind)
        if found is not _MISMATCH:
            return found
    return _MISMATCH


def _within(found: Any, bounds: tuple[Bound, ...]) -> Any:
    if found is not _MISMATCH and not holds(found, bounds):
        raise ValueError(f"has to be {in_words(bounds)}")
    return found


def _one_from_text(text: str, kind: Any) -> Any:
    inner, bounds = unbound(kind)
    if bounds:
        return _within(_one_from_text(text, inner), bounds)
    if kind is str:
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text, _MISMATCH)
    if kind is int:
        return int(text) if _INTEGER.fullmatch(text) and len(text) < 4000 else _MISMATCH
    if kind is float:
        return _number(text)
    if typing.get_origin(kind) is Literal:
        return next((choice for choice in typing.get_args(kind) if str(choice) == text), _MISMATCH)
    if is_list(kind):
        return _items(kind, text.split(",") if text else [])
    return _MISMATCH


def _number(text: str) -> Any:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return _MISMATCH
    over, under = float(match[1]), float(match[2] or 1)
    if under == 0 or not math.isfinite(under) or not math.isfinite(over / under):
        return _MISMATCH
    return over / under


def _from_python(raw: Any, hint: Any) -> Any:
    for kind in _alternatives(hint):
        found = _one_from_python(raw, kind)
        if found is not _MISMATCH:
            return found
    return _MISMATCH


def _one_from_python(raw: Any, kind: Any) -> Any:
    inner, bounds = unbound(kind)
    if bounds:
        return _within(_one_from_python(raw, inner), bounds)
    if kind is types.NoneType:
        return None if raw is None else _MISMATCH
    if kind is str:
        return os.fspath(raw) if isinstance(raw, os.PathLike) else _MISMATCH
    if kind is bool:
        return raw if isinstance(raw, bool) else _MISMATCH
    if typing.get_origin(kind) is Literal:
        same = (choice for choice in typing.get_args(kind) if choice == raw and type(choice) is type(raw))
        return next(same, _MISMATCH)
    if is_list(kind):
        return _items(kind, raw) if isinstance(raw, list | tuple) else _MISMATCH
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return _MISMATCH
    if kind is int:
        return raw if isinstance(raw, int) else _MISMATCH
    return float(raw) if math.isfinite(raw) else _MISMATCH


def _items(kind: Any, raw: Sequence[Any]) -> Any:
    inner = typing.get_args(kind)[0]
    found = [(_from_text if isinstance(item, str) else _from_python)(item, inner) for item in raw]
    if any(item is _MISMATCH for item in found):
        return _MISMATCH
    return tuple(found) if typing.get_origin(kind) is tuple else found
