"""How numbers and tables of a plan are written."""

import pytest

from poise.planning.tables import amount, duration, number, prose, table


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0"),
        (0.00042, "0.4 ms"),
        (0.0465, "46.5 ms"),
        (1.32, "1,320.0 ms"),
        (4.26, "4,260.0 ms"),
        (77, "1 min 17 s"),
    ],
)
def test_durations_have_one_form_below_ten_seconds_and_one_above(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_a_column_has_as_many_digits_after_the_point() -> None:
    assert [number(value) for value in (0, 9.994, 10.3, 1234.5)] == ["0", "9.99", "10.30", "1,234.50"]
    assert [amount(value) for value in (3.2, 83.8e6, 999.9e9)] == ["3.2 ", "83.8 M", "1 T"]


def test_columns_without_anything_are_left_out() -> None:
    assert table(["name", "", "size"], [["a", "", "1.00"], ["long", "", ""]]) == ["name  size", "a     1.00", "long"]


def test_prose_is_no_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = list(prose("what is said of a plan in some words more " * 8))
    assert max(map(len, lines)) <= 40
    assert all(line.startswith("  ") for line in lines)
