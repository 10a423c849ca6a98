"""How a training went."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from poise.figures.canvas import (
    COLOURS,
    INK,
    UNCALIBRATED,
    WORST,
    figure,
    legend,
    log_axis,
    name_axes,
    note,
    percent_axis,
    rows_and_columns,
    short,
    step_axis,
    tidy,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[list[int], list[float]]

LOSSES = ("train/loss", "val/nll")
PARTS = {
    "val/worst_class_accuracy": "validation, worst class",
    "val/worst_group_accuracy": "validation, worst group",
    "val/worst_class_robust_accuracy": "attacked, worst class",
    "val/worst_group_robust_accuracy": "attacked, worst group",
}
ACCURACIES = ("train/accuracy", "val/accuracy", "val/robust_accuracy", *PARTS)
RATE = ("train/lr",)
NAMES = {
    "train/loss": "training loss",
    "val/nll": "validation NLL",
    "train/accuracy": "training",
    "val/accuracy": "validation",
    "val/robust_accuracy": "validation, attacked",
    "train/lr": "learning rate",
    **PARTS,
}
LOOKS = {
    "train/loss": UNCALIBRATED,
    "val/nll": COLOURS[0],
    "train/accuracy": UNCALIBRATED,
    "val/accuracy": COLOURS[0],
    "val/robust_accuracy": COLOURS[1],
    "train/lr": COLOURS[2],
    **dict.fromkeys(PARTS, WORST),
}
LOGGED = "train/"
OF_RECIPES = COLOURS[3]
ROOM = 8  # panels for what recipes log
MOST = 1000  # points that a picture can tell apart
MANY = 60  # points from which on a curve is smoothed


@dataclass(frozen=True)
class Training:
    """Losses, accuracies, learning rate and what recipes log over optimiser steps, the chosen epoch marked.

    The accuracy of the worst class or group is drawn where it chose the epoch. A training loss of many points is drawn
    faint, with its running mean over a 25th of the run.

    Args:
        curves: values by optimiser step, by name; `train/…` of other names than the usual ones are what recipes log,
            of which the first eight that have a finite value are drawn.
        chosen: step at the end of the chosen epoch.
        label: what is chosen, such as `epoch 4`.
        selection: name of the curve that chose it.
    """

    curves: Mapping[str, Mapping[int, float]]
    chosen: int | None = None
    label: str = "epoch"
    selection: str = ""

    def draw(self) -> "Figure":
        """A panel each for losses, accuracies, the learning rate and what recipes log, as far as there are any."""
        kinds = [(names, axis) for names, axis in PANELS if any(self._curve(name) for name in names)]
        kinds += [((name,), short(name.removeprefix(LOGGED))) for name in self._of_recipes()]
        rows, across = rows_and_columns(max(1, len(kinds)))
        whole = figure(max(4.0, 0.4 + 3.1 * across), 3.1 * rows)
        title(whole, "training")
        panels = whole.subplots(rows, across, sharex=True, squeeze=False).flatten()
        for empty in panels[max(1, len(kinds)) :]:
            empty.remove()
        for axes, (names, axis) in zip(panels, kinds, strict=False):
            self._panel(axes, names, axis)
        if not kinds:
            panels[0].set_axis_off()
            note(panels[0], "nothing was logged", (0, 1), (0, -12))
        return whole

    def _panel(self, axes: "Axes", names: Sequence[str], axis: str) -> None:
        found = {name: curve for name in names if (curve := self._curve(name))}
        for name, curve in found.items():
            shown = NAMES.get(name, short(name.removeprefix(LOGGED)))
            _line(axes, curve, LOOKS.get(name, OF_RECIPES), shown, smooth=name == "train/loss")
        if names is LOSSES:
            log_axis(axes, [value for _, values in found.values() for value in values])
        if names is ACCURACIES:
            percent_axis(axes, "y")
        if self.chosen is not None:
            name = short(f"chosen {self.label}")
            axes.axvline(self.chosen, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=name)
        step_axis(axes)
        axes.tick_params(labelbottom=True)  # which panels that share their steps have in the last row alone
        tidy(axes)
        name_axes(axes, x="optimiser step", y=axis)
        legend(axes, loc="best")

    def _of_recipes(self) -> list[str]:
        """What recipes log that has a curve, as much of it as has room."""
        logged = (name for name in self.curves if name.startswith(LOGGED) and name not in NAMES)
        return [name for name in logged if self._curve(name)][:ROOM]

    def _curve(self, name: str) -> Curve | None:
        """The finite points of a curve; None where there are none, or where it is not to be drawn."""
        if name in PARTS and name != self.selection:
            return None
        points = [(step, value) for step, value in self.curves.get(name, {}).items() if math.isfinite(value)]
        return ([step for step, _ in points], [value for _, value in points]) if points else None


PANELS = ((LOSSES, "loss"), (ACCURACIES, "accuracy (%)"), (RATE, "learning rate"))


def _line(axes: "Axes", curve: Curve, colour: str, name: str, smooth: bool) -> None:
    steps, values = curve
    marker = "o" if len(steps) < MANY else ""
    if smooth and not marker:
        axes.plot(_thinned(steps), _thinned(values), color=colour, linewidth=0.6, alpha=0.35)
        values = running_mean(values, len(values) // 50)
    axes.plot(_thinned(steps), _thinned(values), color=colour, linewidth=1.6, marker=marker, markersize=3, label=name)


def _thinned(points: Sequence[float]) -> Sequence[float]:
    """As many points as a picture can show, the last among them."""
    return points[:: -max(1, len(points) // MOST)][::-1]


def running_mean(values: Sequence[float], reach: int) -> list[float]:
    """The mean of each value and the `reach` values at either side of it, as far as there are any."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    ends = [(max(0, place - reach), min(len(values), place + reach + 1)) for place in range(len(values))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in ends]
