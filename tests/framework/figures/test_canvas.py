from pathlib import Path

import matplotlib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.figures.canvas import LONGEST_NAME, colour_of, line_of, rows_and_columns, save, short, whiskers, wilson
from poise.figures.parts import Measure, Parts

NAN = float("nan")


def test_the_interval_is_that_of_published_tables() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1.0, 3) == pytest.approx((0.4385, 1.0), abs=1e-4)


@given(right=st.integers(0, 500), count=st.integers(0, 500))
def test_an_interval_holds_the_share_and_lies_in_0_to_1(right: int, count: int) -> None:
    share = min(right, count) / count if count else 0.0
    low, high = wilson(share, count)
    assert 0 <= low <= share <= high <= 1
    assert [[share - low], [high - share]] == list(whiskers([share], [count]))


def test_an_interval_shrinks_with_the_examples() -> None:
    widths = [high - low for low, high in (wilson(0.8, count) for count in (0, 5, 50, 500))]
    assert widths == sorted(widths, reverse=True)


def test_columns_keep_their_colours() -> None:
    assert len({colour_of(column) for column in range(5)}) == 5
    assert len({(colour_of(column), line_of(column)) for column in range(19)}) == 19


@given(st.integers(1, 40))
def test_panels_stand_in_as_few_rows_of_four_as_there_can_be(panels: int) -> None:
    rows, across = rows_and_columns(panels)
    assert across <= 4
    assert (rows - 1) * 4 < panels <= rows * across


@given(st.text())
def test_a_name_is_one_line_of_bounded_length(name: str) -> None:
    found = short(name)
    assert 0 < len(found) <= LONGEST_NAME
    assert len(found.splitlines()) == 1


@pytest.mark.parametrize("name", ["$x", "a_b^c", "\\frac{", "<script>", "日本語", "two\nlines", "x" * 500, ""])
def test_names_of_any_kind_are_drawn_and_leave_matplotlib_as_it_was(name: str, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    bars = Parts(name, "class", (name, "other"), (3, 5), (Measure(name, (0.5, NAN), 0.5),))
    save(bars, tmp_path / "a.png")
    save(bars, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert dict(matplotlib.rcParams) == before
