import pytest
from matplotlib.patches import StepPatch

from poise.figures.certified import Certified


def drawing(*radii: float) -> Certified:
    return Certified("test", "randomized smoothing", 0.25, 1000, 0.001, 0.6, radii, abstained=1, examples=4)


def test_the_curve_steps_down_at_each_radius() -> None:
    (axes,) = drawing(0.1, 0.5).draw().axes
    (curve,) = (patch for patch in axes.patches if isinstance(patch, StepPatch))
    values, edges, _ = curve.get_data()
    assert list(values) == [0.5, 0.25, 0.0]
    assert list(edges) == pytest.approx([0, 0.1, 0.5, axes.get_xlim()[1]])
    (mark,) = axes.lines
    assert mark.get_xdata()[0] == 0.6
    assert {text.get_text() for text in axes.texts} == {
        "most that 1,000 copies can prove",
        "σ = 0.25, α = 0.001, 4 examples, 1 abstain",
    }


def test_nothing_certified_is_a_curve_at_zero() -> None:
    (axes,) = drawing().draw().axes
    (curve,) = (patch for patch in axes.patches if isinstance(patch, StepPatch))
    values, _, _ = curve.get_data()
    assert list(values) == [0.0]
