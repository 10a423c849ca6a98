from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from poise.figures.canvas import colour_of, save, wilson
from poise.figures.reliability import Column, Reliability

NAN = float("nan")
EMPTY = Column("never", (0, 0), (NAN, NAN), (NAN, NAN))
COLUMN = Column("uncalibrated", (0, 3, 97, 0), (NAN, 0.4, 0.7, NAN), (NAN, 1.0, 0.6, NAN), (("ECE", 0.115),))


def bars(axes: Axes) -> list[tuple[float, float]]:
    """From where to where each bar reaches."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in found]


def test_bars_are_accuracies_and_hatched_ones_reach_to_the_confidence() -> None:
    diagram, histogram = Reliability("test", (COLUMN,)).draw().axes
    seen = bars(diagram)
    assert seen[:2] == [(0, 1.0), (0, 0.6)]
    assert seen[4:] == [pytest.approx((1.0, 0.4)), pytest.approx((0.6, 0.7))]
    assert bars(histogram) == [(0, 0), (0, 3), (0, 97), (0, 0)]
    assert [patch.get_x() + patch.get_width() / 2 for patch in diagram.patches[:2]] == pytest.approx([0.375, 0.625])


def test_a_bin_of_three_examples_shows_that_it_says_little() -> None:
    diagram, _ = Reliability("test", (COLUMN,)).draw().axes
    (_, _, (lines,)) = diagram.containers[-1]
    ends = [[float(y) for _, y in segment] for segment in lines.get_segments()]
    assert ends == [pytest.approx(wilson(1.0, 3)), pytest.approx(wilson(0.6, 97))]


def test_scores_and_examples_stand_in_the_panel() -> None:
    diagram, _ = Reliability("test", (COLUMN,)).draw().axes
    assert [text.get_text() for text in diagram.texts] == ["ECE 0.1150 · 100 examples"]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_each_column_has_a_panel_in_its_colour_with_shared_axes(count: int, tmp_path: Path) -> None:
    saturated = Column("scaled", (0, 0, 0, 50), (NAN, NAN, NAN, 1.0), (NAN, NAN, NAN, 1.0))
    whole = Reliability("test", (COLUMN, *[saturated] * (count - 1))).draw()
    assert len(whole.axes) == 2 * count
    assert [axes.get_title(loc="left") for axes in whole.axes[:count]] == ["uncalibrated", *["scaled"] * (count - 1)]
    colours = [axes.patches[0].get_facecolor() for axes in whole.axes[:count]]
    assert len(set(colours)) == count
    assert {axes.get_ylim() for axes in whole.axes[:count]} == {(0, 1)}
    assert len({axes.get_ylim() for axes in whole.axes[count:]}) == 1
    save(Reliability("test", (COLUMN, *[saturated] * (count - 1))), tmp_path / "a.png")


def test_of_many_columns_there_are_rows_of_four_in_which_each_has_both_panels_and_its_axes_named() -> None:
    whole = Reliability("test", (COLUMN,) * 13).draw()
    named = [axes for axes in whole.axes if axes.get_title(loc="left")]
    assert (len(named), len(whole.axes)) == (13, 26)
    assert len({round(axes.get_position().x0, 3) for axes in named}) == 4
    assert sum(axes.get_ylabel() == "accuracy (%)" for axes in named) == 4
    assert sum(axes.get_xlabel() == "confidence (%)" for axes in whole.axes) == 13
    width, height = whole.get_size_inches()
    assert width < 12 < height


def test_a_column_without_examples_is_drawn_empty(tmp_path: Path) -> None:
    save(Reliability("test", (EMPTY,)), tmp_path / "a.png")
    diagram, _ = Reliability("test", (EMPTY,)).draw().axes
    assert bars(diagram) == []
    assert colour_of(0) != colour_of(1)
