import math
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.config.values import convert, expected

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.integers())
def test_integers_are_digits(number: int) -> None:
    assert convert(str(number), int) == convert(number, int) == number


@given(FINITE)
def test_floats_come_back_from_their_text(number: float) -> None:
    assert convert(repr(number), float) == convert(number, float) == number


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_fractions_are_quotients(over: int, under: int) -> None:
    assert convert(f"{over}/{under}", float) == over / under


@given(st.text())
def test_strings_stand_as_they_are(text: str) -> None:
    assert convert(text, str) == text


@given(st.lists(FINITE))
def test_lists_split_at_commas(numbers: list[float]) -> None:
    assert convert(",".join(map(repr, numbers)), list[float]) == convert(numbers, list[float]) == numbers


@pytest.mark.parametrize(
    ("raw", "hint", "value"),
    [
        ("010", int, 10),
        ("010", str, "010"),
        ("30:00", str, "30:00"),
        ("a # b", str, "a # b"),
        ("true", bool, True),
        ("none", int | None, None),
        ("none", Literal["uniform", "none"], "none"),
        ("none", str, "none"),
        ("1e-3", float, 1e-3),
        (".5", float | None, 0.5),
        (3, float, 3.0),
        ("3", int | float | str, 3),
        ("3.0", int | float | str, 3.0),
        ("three", int | float | str, "three"),
        ("b", Literal["a", "b"] | None, "b"),
        ("1,2", tuple[int, ...], (1, 2)),
        ((1, 2), list[int], [1, 2]),
        (["a,b"], list[str], ["a,b"]),
        ("", list[int], []),
        (None, int | None, None),
    ],
)
def test_values(raw: Any, hint: Any, value: Any) -> None:
    found = convert(raw, hint)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("raw", "hint", "words"),
    [
        ("1.0", int, "is not an integer"),
        ("1_000", int, "is not an integer"),
        ("٣", int, "is not an integer"),
        ("0x10", int, "is not an integer"),
        (True, int, "is not an integer"),
        (1.0, int, "is not an integer"),
        ("nan", float, r"is not a number \(0.1, 1e-3 or 8/255\)"),
        ("inf", float, "is not a number"),
        ("1e999", float, "is not a number"),
        ("1/0", float, "is not a number"),
        ("8/255/2", float, "is not a number"),
        (" 1", float, "is not a number"),
        (math.nan, float, "is not a number"),
        ("yes", bool, "is not true or false"),
        ("True", bool, "is not true or false"),
        (1, bool, "is not true or false"),
        ("none", int, "is not an integer"),
        (None, int, "is not an integer"),
        ("x", int | None, "is not an integer or none"),
        ("c", Literal["a", "b"], "is not a or b"),
        ("1,x", list[int], "is not a list, each an integer"),
        (5, str, "is not a string"),
    ],
)
def test_everything_else_is_refused(raw: Any, hint: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        convert(raw, hint)


def test_types_in_words() -> None:
    assert expected(list[float] | None) == "a list, each a number (0.1, 1e-3 or 8/255) or none"
