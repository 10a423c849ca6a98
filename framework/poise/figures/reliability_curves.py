"""Accuracy over confidence of clean inputs, shifts and attack, on one axis."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poise.figures.canvas import (
    COLOURS,
    INK,
    figure,
    legend,
    line_of,
    name_axes,
    panel_title,
    percent_axis,
    rows_and_columns,
    short,
    tidy,
    title,
)
from poise.figures.reliability import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEWEST = 10  # examples of a bin that is drawn


@dataclass(frozen=True)
class ReliabilityCurves:
    """A panel for each calibrator, in rows of four, a curve for each source: above the diagonal is under-confident.

    Args:
        sources: by name, such as `test` and `test, attacked`: their columns by calibrator, the same for all.
    """

    sources: Mapping[str, Mapping[str, Column]]

    def draw(self) -> "Figure":
        """The curves, of bins with ten examples or more."""
        names = list(next(iter(self.sources.values())))
        rows, across = rows_and_columns(len(names))
        whole = figure(max(4.0, 0.6 + 2.8 * across), 0.7 + 3.2 * rows)
        panels = whole.subplots(rows, across, sharey=True, squeeze=False).flatten()
        for empty in panels[len(names) :]:
            empty.remove()
        for place, (axes, name) in enumerate(zip(panels, names, strict=False)):
            for number, (source, columns) in enumerate(self.sources.items()):
                _curve(axes, columns[name], number, "" if place else short(source))
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.set(xlim=(0, 1), ylim=(0, 1))
            for which in ("x", "y"):
                percent_axis(axes, which)
            tidy(axes)
            name_axes(axes, x="confidence (%)", y="" if place % across else "accuracy (%)")
            panel_title(axes, short(name), below="bins of 10 examples or more")
        title(whole, "reliability of all that was looked at")
        legend(whole, loc="outside lower left", ncols=4)
        return whole


def _curve(axes: "Axes", column: Column, number: int, label: str) -> None:
    seen = [place for place, count in enumerate(column.counts) if count >= FEWEST]
    confidence, accuracy = ([values[place] for place in seen] for values in (column.confidence, column.accuracy))
    look: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linestyle": line_of(number + 1), "linewidth": 1.6}
    axes.plot(confidence, accuracy, marker="o", markersize=3, label=label, **look)
