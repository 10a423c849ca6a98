import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.figures.canvas import save
from poise.figures.training import MOST, ROOM, Training, running_mean

CURVES = {
    "train/loss": {10: 2.0, 20: 1.0, 30: math.inf},
    "train/mine/share": {10: 0.75, 20: 0.5},
    "train/mine/none": {10: math.nan},
    "val/other": {10: 1.0},
    "val/accuracy": {15: 0.5, 30: 0.75},
    "val/robust_accuracy": {15: 0.25, 30: 0.5},
    "train/lr": {10: 0.1},
}


def test_losses_accuracies_the_rate_and_what_recipes_log_have_panels_and_other_names_have_none() -> None:
    panels = losses, accuracies, _, share = Training(CURVES, chosen=15, label="epoch 1").draw().axes
    assert [axes.get_ylabel() for axes in panels] == ["loss", "accuracy (%)", "learning rate", "mine/share"]
    assert list(share.lines[0].get_ydata()) == [0.75, 0.5]
    drawn, mark = losses.lines
    assert (list(drawn.get_xdata()), list(drawn.get_ydata())) == ([10, 20], [2.0, 1.0])
    assert (mark.get_xdata()[0], mark.get_label()) == (15, "chosen epoch 1")
    assert [str(line.get_label()) for line in accuracies.lines] == [
        "validation",
        "validation, attacked",
        "chosen epoch 1",
    ]


@pytest.mark.parametrize(
    ("selection", "drawn"),
    [
        ("val/accuracy", ["validation"]),
        ("val/worst_class_accuracy", ["validation", "validation, worst class"]),
        ("val/worst_group_robust_accuracy", ["validation", "attacked, worst group"]),
    ],
)
def test_a_part_whose_accuracy_chose_the_epoch_has_a_curve(selection: str, drawn: list[str]) -> None:
    worst = {f"val/worst_{part}": {15: 0.0, 30: 0.25} for part in ("class_accuracy", "group_robust_accuracy")}
    (axes,) = Training({"val/accuracy": CURVES["val/accuracy"], **worst}, selection=selection).draw().axes
    assert [str(line.get_label()) for line in axes.lines] == drawn


def test_a_scale_is_logarithmic_where_losses_span_much() -> None:
    near, far = ({"train/loss": {1: 2.0, 2: least}} for least in (0.5, 0.1))
    assert Training(near).draw().axes[0].get_yscale() == "linear"
    assert Training(far).draw().axes[0].get_yscale() == "log"
    assert Training({"train/loss": {1: 2.0, 2: 0.0}}).draw().axes[0].get_yscale() == "linear"


def test_a_long_curve_is_smoothed_thinned_and_ends_where_it_ends() -> None:
    (axes,) = Training({"train/loss": {step: float(step % 2) for step in range(1, 5001)}}).draw().axes
    raw, smooth = axes.lines
    assert len(smooth.get_xdata()) <= MOST + 1
    assert max(smooth.get_xdata()) == max(raw.get_xdata()) == 5000
    assert list(smooth.get_ydata())[100:200] == pytest.approx([0.5] * 100, abs=0.01)


@given(st.lists(st.floats(-10, 10), max_size=30), st.integers(0, 5))
def test_a_running_mean_is_the_mean_of_the_neighbours(values: list[float], reach: int) -> None:
    parts = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    assert running_mean(values, reach) == pytest.approx([sum(part) / len(part) for part in parts], abs=1e-9)


def test_of_what_recipes_log_as_much_is_drawn_as_has_room(tmp_path: Path) -> None:
    logged = {f"train/mine/{number}": {10: 1.0} for number in range(ROOM + 1)}
    drawing = Training({"train/loss": CURVES["train/loss"], **logged})
    assert [axes.get_ylabel() for axes in drawing.draw().axes] == ["loss", *(f"mine/{n}" for n in range(ROOM))]
    save(drawing, tmp_path / "a.png")


def test_a_training_of_which_nothing_was_logged_says_so(tmp_path: Path) -> None:
    (axes,) = Training({}).draw().axes
    assert [text.get_text() for text in axes.texts] == ["nothing was logged"]
    save(Training({}), tmp_path / "a.png")
