"""What a report says of a training: which epoch of how many was chosen, by what, and whether that told any apart."""

from pathlib import Path

import pytest

from poise.checkpoint import Manifest
from poise.course import course
from poise.evaluator import Findings
from poise.figures.training import Training

LOSSES = {4: 0.5, 8: 0.25, 12: 0.75}
NUMBERS = {4: 1.0, 8: 2.0, 12: 3.0}


def told(selection: str, values: dict[int, float], step: int, **curves: dict[int, float]) -> Findings:
    facts = {"step": step, "epoch": step // 4 - 1, "score": values[step], "selection": selection}
    noted = {"epoch": NUMBERS, "val/nll": LOSSES, selection: values, **curves}
    return course(Manifest(Path("step"), facts, ranks=1), noted)


@pytest.mark.parametrize(
    ("selection", "values", "step", "note", "doubts"),
    [
        ("val/accuracy", {4: 0.5, 8: 0.75, 12: 0.25}, 8, "val/accuracy=0.7500", []),
        (
            "val/accuracy",
            {4: 0.5, 8: 0.75, 12: 0.75},
            8,
            "val/accuracy=0.7500, of the 2 epochs with that value the one of the lowest val/nll",
            [],
        ),
        ("val/nll", {4: 0.5, 8: 0.5, 12: 0.75}, 4, "val/nll=0.5000, of the 2 epochs with that value the earliest", []),
        (
            "val/worst_class_accuracy",
            {4: 0.0, 8: 0.0, 12: 0.0},
            8,
            "val/worst_class_accuracy=0.0000, of the 3 epochs with that value the one of the lowest val/nll",
            [
                "selection=worst_class_accuracy was 0 in all 3 epochs and chose none of them: "
                "the one of the lowest val/nll is shipped"
            ],
        ),
    ],
)
def test_the_chosen_epoch_is_named_with_what_chose_it(
    selection: str, values: dict[int, float], step: int, note: str, doubts: list[str]
) -> None:
    found = told(selection, values, step)
    assert found.notes == (f"Epoch {step // 4} of 3 was chosen by {note}.",)
    assert list(found.doubts) == doubts


def test_its_figure_marks_the_epoch_and_has_the_curve_that_chose_it() -> None:
    figure = told("val/worst_class_accuracy", {4: 0.5, 8: 0.75, 12: 0.25}, 8).figures["training"]
    assert isinstance(figure, Training)
    (line, mark) = figure.draw().axes[1].lines
    assert (line.get_label(), list(line.get_ydata())) == ("validation, worst class", [0.5, 0.75, 0.25])
    assert (mark.get_label(), mark.get_xdata()[0]) == ("chosen epoch 2", 8)


@pytest.mark.parametrize("noted", [{4: 0.0}, {4: 0.0, 12: 0.0}])
def test_epochs_that_were_not_noted_or_had_no_equals_are_no_ground_for_doubts(noted: dict[int, float]) -> None:
    assert not told("val/accuracy", noted, 4).doubts
    assert not told("val/accuracy", {4: 0.0}, 4, epoch={4: 1.0}).doubts


def test_a_training_of_which_nothing_was_noted_still_tells_the_epoch() -> None:
    facts = {"step": 8, "epoch": 1, "score": 0.75, "selection": "val/accuracy"}
    found = course(Manifest(Path("step"), facts, ranks=1), {})
    assert found.notes == ("Epoch 2 was chosen by val/accuracy=0.7500.",)
    assert not found.doubts
