import pytest
from matplotlib.patches import StepPatch

from poise.figures.set_sizes import SetSizes, Sizes


def drawing(*counts: tuple[int, ...]) -> SetSizes:
    sizes = tuple(Sizes(f"rule{place}", of_one, 0.9) for place, of_one in enumerate(counts))
    return SetSizes("test", 0.1, (("as they are", sizes), ("pgd-20", sizes[:1])))


def test_curves_step_up_at_each_size_to_one() -> None:
    clean, attacked = drawing((1, 2, 1), (0, 0, 4)).draw().axes
    first, second = (patch for patch in clean.patches if isinstance(patch, StepPatch))
    values, edges, _ = first.get_data()
    assert list(values) == pytest.approx([0.25, 0.75, 1.0])
    assert list(edges) == [-0.5, 0.5, 1.5, 2.5]
    assert list(second.get_data()[0]) == pytest.approx([0, 0, 1])
    assert len(attacked.patches) == 1
    legend = clean.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "rule0: 1 labels, 90.0 % covered",
        "rule1: 2 labels, 90.0 % covered",
    ]


def test_rules_with_other_examples_are_told_of() -> None:
    (clean, _) = drawing((1, 2, 1), (0, 4, 0), (0, 0, 2)).draw().axes
    assert "4 examples, 2 for rule2" in {text.get_text() for text in clean.texts}


def test_of_many_classes_the_axis_is_logarithmic() -> None:
    scales = [drawing((0, *[1] * count)).draw().axes[0].get_xscale() for count in (20, 21)]
    assert scales == ["linear", "symlog"]


def test_a_rule_has_one_colour_in_every_panel() -> None:
    one, other = Sizes("lac", (1, 2, 1), 0.9), Sizes("rscp_plus", (0, 0, 4), 0.9)
    both, alone = SetSizes("test", 0.1, (("as they are", (one, other)), ("smoothed-pgd-20", (other,)))).draw().axes
    assert alone.patches[0].get_edgecolor() == both.patches[1].get_edgecolor() != both.patches[0].get_edgecolor()
