import pytest

from poise.figures.detection import Curve, Panel, Roc

STEP = Curve((0.0, 0.0, 1.0), (0.0, 0.75, 1.0), 0.875)
EVEN = Curve((0.0, 1.0), (0.0, 1.0), 0.5)


def panel(name: str) -> Panel:
    return Panel("semantic shift", name, 10_000, 26_032, {"msp": EVEN, "knn": STEP})


def test_each_score_has_its_curve_and_its_area() -> None:
    (axes,) = Roc("test", (panel("svhn"),)).draw().axes
    _, even, step = axes.lines
    assert (list(step.get_xdata()), list(step.get_ydata())) == (list(STEP.usual), list(STEP.strange))
    assert (even.get_label(), step.get_label()) == ("msp  0.500", "knn  0.875")
    assert axes.get_title("left") == "semantic shift"
    assert [text.get_text() for text in axes.texts] == ["svhn: 10,000 usual, 26,032 strange"]


@pytest.mark.parametrize(("panels", "axes"), [(1, 1), (2, 2), (4, 6)])
def test_panels_stand_in_rows_of_three_and_all_have_their_axes_named(panels: int, axes: int) -> None:
    drawn = Roc("test", tuple(map(panel, map(str, range(panels))))).draw().axes
    assert len(drawn) == axes
    assert [each.axison for each in drawn] == [True] * panels + [False] * (axes - panels)
    assert all(each.get_xlabel() for each in drawn[max(0, panels - 3) : panels])
    assert drawn[0].get_ylabel() == "strange flagged (%)"


def test_nothing_is_cut_off_at_the_edges() -> None:
    whole = Roc("test", tuple(map(panel, "ab"))).draw()
    whole.draw_without_rendering()
    low, high = whole.get_tightbbox().min, whole.get_tightbbox().max
    assert (low >= 0).all()
    assert (high <= whole.get_size_inches()).all()
