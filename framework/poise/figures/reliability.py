"""Is an answer given with confidence p right in a share p of cases?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poise.figures.canvas import (
    INK,
    colour_of,
    figure,
    legend,
    name_axes,
    panel_title,
    percent_axis,
    rows_and_columns,
    short,
    tidy,
    title,
    whiskers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from poise.metrics.summary import Summary

GAP = "#b3001b"


@dataclass(frozen=True)
class Column:
    """The confidence bins of one column of the report: bins of equal width over 0…1.

    Args:
        name: `uncalibrated` or a calibrator's.
        counts: examples in each bin.
        confidence: their mean confidence; nan where there are none.
        accuracy: the share of them that is right; nan where there are none.
        scores: further numbers to stand in the panel, by name, such as ECE.
    """

    name: str
    counts: tuple[int, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    scores: tuple[tuple[str, float], ...] = ()


def column(name: str, summary: "Summary") -> Column:
    """A column from its scores and bins."""
    bins, scores = summary.bins, summary.scores
    return Column(
        name=name,
        counts=tuple(bins.counts.tolist()),
        confidence=tuple(bins.confidence.tolist()),
        accuracy=tuple(bins.accuracy.tolist()),
        scores=tuple((name.upper(), scores[name]) for name in ("ece", "nll") if name in scores),
    )


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: accuracy over confidence, a panel for each column, and beneath how many examples.

    Of many columns there are rows of four.

    Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599, figure 1. The
    whiskers are Wilson's intervals at 95 %, so a bin of three examples shows that it says little.

    Args:
        split: that was measured.
        columns: one or more, the uncalibrated first.
    """

    split: str
    columns: tuple[Column, ...]

    def draw(self) -> "Figure":
        """The diagram."""
        rows, across = rows_and_columns(len(self.columns))
        whole = figure(max(4.0, 0.6 + 2.8 * across), 0.6 + 3.9 * rows)
        panels = whole.subplots(2 * rows, across, sharey="row", squeeze=False, height_ratios=[3.4, 1] * rows)
        diagrams, histograms = panels[::2].flatten(), panels[1::2].flatten()
        most = max(1, *(count for column in self.columns for count in column.counts))
        for place, column in enumerate(self.columns):
            _diagram(diagrams[place], column, colour_of(place), named=place == 0)
            _histogram(histograms[place], column, colour_of(place), most)
            if place % across == 0:
                name_axes(diagrams[place], y="accuracy (%)")
                name_axes(histograms[place], y="examples")
        for empty in [*diagrams[len(self.columns) :], *histograms[len(self.columns) :]]:
            empty.remove()
        title(whole, f"{short(self.split)}: reliability")
        legend(whole, loc="outside lower left", ncols=3)
        return whole


def _diagram(axes: "Axes", column: Column, colour: str, named: bool) -> None:
    """The upper panel; `named` in the legend once for all."""
    width = 1 / len(column.counts)
    seen = [place for place, count in enumerate(column.counts) if count]
    centre = [(place + 0.5) * width for place in seen]
    accuracy = [column.accuracy[place] for place in seen]
    gap = [column.confidence[place] - column.accuracy[place] for place in seen]
    whisker = whiskers(accuracy, [column.counts[place] for place in seen])
    hatched: dict[str, Any] = {"fill": False, "edgecolor": GAP, "hatch": "/////", "linewidth": 0.7}
    thin: dict[str, Any] = {"elinewidth": 0.8, "capsize": 1.6}
    axes.bar(centre, accuracy, 0.9 * width, color=colour)
    axes.bar(centre, gap, 0.9 * width, accuracy, color="white", alpha=0.6)
    axes.bar(centre, gap, 0.9 * width, accuracy, label="gap to the confidence" if named else "", **hatched)
    axes.errorbar(centre, accuracy, whisker, fmt="none", ecolor=INK, label="95 % interval" if named else "", **thin)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=3)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    percent_axis(axes, "y")
    tidy(axes)
    axes.tick_params(labelbottom=False)
    panel_title(axes, short(column.name), below=_scores(column))


def _histogram(axes: "Axes", column: Column, colour: str, most: int) -> None:
    """The lower panel, of bins of `most` examples or fewer."""
    width = 1 / len(column.counts)
    centre = [(place + 0.5) * width for place in range(len(column.counts))]
    axes.bar(centre, column.counts, 0.9 * width, color=colour)
    axes.set(xlim=(0, 1), ylim=(0, 1.05 * most))
    percent_axis(axes, "x")
    tidy(axes, "y")
    name_axes(axes, x="confidence (%)")


def _scores(column: Column) -> str:
    named = [f"{name} {value:.4f}" for name, value in column.scores]
    return " · ".join([*named, f"{sum(column.counts):,} examples"])
