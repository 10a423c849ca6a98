import ast
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Lt
from hypothesis import given
from hypothesis import strategies as st

from poise.registry.literals import UnreadableError, annotation, value

IMPORTS = {"Literal": "typing.Literal", "Optional": "typing.Optional", "t": "typing", "a": "annotated_types"}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
LITERALS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=8,
)


def parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@given(LITERALS)
def test_any_literal_is_read_as_python_reads_it(literal: Any) -> None:
    assert value(parsed(repr(literal))) == literal


@given(st.integers(-100, 100), st.floats(0.1, 100), st.sampled_from(["+", "-", "*", "/"]))
def test_arithmetic_is_pythons(a: int, b: float, op: str) -> None:
    text = f"{a} {op} {b}"
    assert value(parsed(text)) == eval(text)


def test_sets_and_powers() -> None:
    assert value(parsed("frozenset({'a', 'b'})")) == frozenset({"a", "b"})
    assert value(parsed("frozenset()")) == frozenset()
    assert value(parsed("2 ** -3")) == 0.125


@pytest.mark.parametrize("text", ["len(x)", "x", "1 / 0", "'a' + 'b'", "True * 3", "[*x]", "{**x}", "f'{x}'", "b'a'"])
def test_what_has_to_be_run_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableError):
        value(parsed(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int", int),
        ("float | None", float | None),
        ("Optional[str]", str | None),
        ("'int | str'", int | str),
        ("Literal['a', 'b']", Literal["a", "b"]),
        ("t.Literal[1] | None", Literal[1] | None),
        ("t.Annotated[float, a.Ge(0), a.Lt(1)]", Annotated[float, Ge(0), Lt(1)]),
        ("list[t.Annotated[int, a.Gt(-1)]] | None", list[Annotated[int, Gt(-1)]] | None),
        ("list[float]", list[float]),
        ("tuple[int, ...]", tuple[int, ...]),
        ("list[Literal['a']] | None", list[Literal["a"]] | None),
    ],
)
def test_types(text: str, expected: Any) -> None:
    assert annotation(parsed(text), IMPORTS) == expected


@pytest.mark.parametrize("text", ["Tensor", "dict[str, int]", "tuple[int, int]", "Literal", "list[Tensor]", "a.b[int]"])
def test_types_that_text_cannot_give(text: str) -> None:
    with pytest.raises(UnreadableError):
        annotation(parsed(text), IMPORTS)
