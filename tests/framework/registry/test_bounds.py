from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Le, Lt

from poise.config.values import bounds_in_words, convert, expected
from poise.registry.bounds import unbound

SHARE = Annotated[float, Gt(0), Le(1)]


@pytest.mark.parametrize(
    ("raw", "hint", "value"),
    [
        ("0", Annotated[float, Ge(0)], 0.0),
        (1, SHARE, 1.0),
        ("none", SHARE | None, None),
        ("0.5,1", list[SHARE], [0.5, 1.0]),
        ("3", Annotated[int, Ge(1), Lt(4)], 3),
    ],
)
def test_what_keeps_its_bounds_is_taken(raw: Any, hint: Any, value: Any) -> None:
    assert convert(raw, hint) == value


@pytest.mark.parametrize(
    ("raw", "hint", "words"),
    [
        ("-1e-9", Annotated[float, Ge(0)], "has to be 0 or more"),
        (0, SHARE, "has to be above 0 and at most 1"),
        ("2", SHARE | None, "has to be above 0 and at most 1"),
        ([0.5, 0.0], list[SHARE], "has to be above 0 and at most 1"),
        ("4", Annotated[int, Ge(1), Lt(4)], "has to be 1 or more and below 4"),
        ("x", SHARE | None, r"is not a number \(0.1, 1e-3 or 8/255\) or none"),
    ],
)
def test_what_does_not_is_refused_in_words(raw: Any, hint: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{words}$"):
        convert(raw, hint)


def test_types_and_bounds_in_words() -> None:
    assert (expected(SHARE), bounds_in_words(list[SHARE] | None)) == (expected(float), "above 0 and at most 1")
    assert (bounds_in_words(float), unbound(float)) == ("", (float, ()))
