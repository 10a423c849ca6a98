import pytest

from poise.figures.radius import LAW, Radius
from poise.robustness.power_law import power_law

OWN = (0.9, 0.7, 0.2)


def curve(eps: float, norm: str = "linf", **columns: tuple[float, ...]) -> Radius:
    return Radius("test", "pgd-20", norm, eps, (0.0, eps, 2 * eps), (("uncalibrated", OWN), *columns.items()), 100)


def test_the_curve_is_of_the_accuracies_and_the_own_radius_is_marked() -> None:
    (axes,) = curve(0.3).draw().axes
    line, mark = axes.lines
    assert list(line.get_ydata()) == list(OWN)
    assert list(line.get_xdata()) == pytest.approx([0, 0.3, 0.6])
    assert mark.get_xdata()[0] == 0.3
    assert {text.get_text() for text in axes.texts} == {"eps = 0.3", "100 examples"}


def test_radii_that_are_so_many_255ths_are_written_so() -> None:
    (axes,) = curve(8 / 255).draw().axes
    assert list(axes.lines[0].get_xdata()) == pytest.approx([0, 8, 16])
    assert axes.texts[0].get_text() == "eps = 8/255"
    assert axes.get_xlabel() == "ℓ∞ radius (/255)"
    assert curve(12.0, "l1").draw().axes[0].get_xlabel() == "ℓ1 radius"
    assert curve(8 / 255, "l2").draw().axes[0].get_xlabel() == "ℓ2 radius"


def test_a_calibrator_that_changes_no_prediction_has_no_curve_and_others_keep_their_colour() -> None:
    (axes,) = curve(0.3, same=OWN, vector=(0.8, 0.6, 0.3)).draw().axes
    drawn = {str(line.get_label()): line.get_color() for line in axes.lines[:-1]}
    (alone,) = curve(0.3, same=(0.0, 0.0, 0.0), vector=(0.8, 0.6, 0.3)).draw().axes
    assert list(drawn) == ["uncalibrated", "vector"]
    assert drawn["vector"] == alone.lines[2].get_color()


def grown(errors: tuple[float, ...]) -> Radius:
    radii = (0.0, *(0.01 * 2**k for k in range(len(errors) - 1)))
    columns = (("uncalibrated", tuple(1 - error for error in errors)),)
    return Radius("test", "pgd-20", "linf", 0.1, radii, columns, 100, errors, power_law(radii, errors))


def test_errors_have_a_panel_with_their_law() -> None:
    _, axes = grown((0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.5)).draw().axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    law = next(line for line in axes.lines if line.get_color() == LAW)
    assert list(law.get_xdata()) == pytest.approx([0.01, 0.16])
    assert list(law.get_ydata()) == pytest.approx([0.01, 0.16])
    assert axes.texts[0].get_text() == "share = 1 · radius^1.00 in input units,  R² = 1.000"


def test_that_there_is_no_law_is_said() -> None:
    _, axes = grown((0.0, 0.0, 0.02, 0.5, 0.9)).draw().axes
    assert not [line for line in axes.lines if line.get_color() == LAW]
    assert axes.texts[0].get_text().startswith("no power law: fewer than 5 radii")
    assert len(axes.containers) == 3
