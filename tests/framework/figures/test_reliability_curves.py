from poise.figures.reliability import Column
from poise.figures.reliability_curves import ReliabilityCurves

COLUMN = Column("c", (20, 5, 10), (0.2, 0.5, 0.9), (0.1, 0.4, 1.0))


def drawing(calibrators: int) -> ReliabilityCurves:
    columns = {f"c{place}": COLUMN for place in range(calibrators)}
    return ReliabilityCurves({"test": columns, "test, attacked": columns})


def test_each_calibrator_has_a_panel_and_each_source_a_curve_of_bins_that_are_full_enough() -> None:
    axes, _ = drawing(2).draw().axes
    curve, attacked, _ = axes.lines
    assert (list(curve.get_xdata()), list(curve.get_ydata())) == ([0.2, 0.9], [0.1, 1.0])
    assert curve.get_color() != attacked.get_color()


def test_of_many_calibrators_there_are_rows_of_four() -> None:
    whole = drawing(13).draw()
    assert [axes.get_title(loc="left") for axes in whole.axes] == [f"c{place}" for place in range(13)]
    assert len({round(axes.get_position().x0, 3) for axes in whole.axes}) == 4
    assert whole.get_size_inches()[0] < 12
