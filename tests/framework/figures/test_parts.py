import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from poise.figures.canvas import save
from poise.figures.parts import ENDS, MOST, Measure, Parts

NAN = float("nan")


def named(count: int, *measures: Measure) -> Parts:
    return Parts("test", "class", tuple(f"c{part}" for part in range(count)), (10,) * count, measures)


def labels(whole: Figure) -> list[str]:
    return [label.get_text() for label in whole.axes[0].get_yticklabels()]


def widths(whole: Figure) -> list[float]:
    return [patch.get_width() for patch in whole.axes[0].patches]


def test_the_worst_is_on_top_and_marked_and_what_has_no_examples_is_left_out() -> None:
    parts = Parts("test", "group", ("a", "b", "c"), (5, 0, 2000), (Measure("clean", (0.8, NAN, 0.25), 0.4),))
    whole = parts.draw()
    assert labels(whole) == ["c  (2,000)", "a  (5)"]
    assert widths(whole) == [0.25, 0.8]
    assert whole.axes[0].yaxis_inverted()
    weights = [label.get_fontweight() for label in whole.axes[0].get_yticklabels()]
    assert weights == ["bold", "normal"]


def test_two_measures_stand_side_by_side_in_the_order_of_the_last() -> None:
    clean, attacked = Measure("clean", (0.9, 0.7), 0.8), Measure("pgd-20", (0.1, 0.6), 0.35)
    whole = named(2, clean, attacked).draw()
    assert labels(whole) == ["c0  (10)", "c1  (10)"]
    assert widths(whole) == [0.9, 0.7, 0.1, 0.6]
    (legend,) = whole.legends
    assert [text.get_text() for text in legend.get_texts()] == ["clean, 80.0 % overall", "pgd-20, 35.0 % overall"]
    assert whole.get_suptitle() == "test: accuracy by class under pgd-20"
    assert [line.get_xdata()[0] for line in whole.axes[0].lines if len(set(line.get_xdata())) == 1][:1] == [0.8]


def test_of_very_many_the_worst_and_the_best_are_shown_and_the_rest_is_said() -> None:
    count = 100
    whole = named(count, Measure("clean", tuple(part / count for part in range(count)), 0.5)).draw()
    ends = [*range(ENDS), *range(count - ENDS, count)]
    assert [re.sub(r"\D.*", "", label[1:]) for label in labels(whole)] == [str(part) for part in ends]
    assert any("70 classes between these" in text.get_text() for text in whole.axes[0].texts)
    places = whole.axes[0].get_yticks()
    assert places[ENDS] - places[ENDS - 1] == pytest.approx(2 * (places[1] - places[0]))


def test_as_many_as_fit_are_all_shown() -> None:
    assert len(labels(named(MOST, Measure("clean", (0.5,) * MOST, 0.5)).draw())) == MOST


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.3, 1.0, NAN]), min_size=1, max_size=50))
def test_any_shares_are_drawn(shares: list[float]) -> None:
    whole = named(len(shares), Measure("clean", tuple(shares), 0.5)).draw()
    assert len(widths(whole)) <= MOST


def test_nothing_to_show_is_drawn_empty(tmp_path: Path) -> None:
    save(named(1, Measure("clean", (NAN,), NAN)), tmp_path / "a.png")
