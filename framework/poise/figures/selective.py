"""How few answers are wrong where the doubtful ones are withheld."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poise.figures.canvas import (
    INK,
    WIDTH,
    colour_of,
    figure,
    legend,
    line_of,
    name_axes,
    note,
    percent_axis,
    short,
    tidy,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float]

SIDE_BY_SIDE = 2  # names in the legend


@dataclass(frozen=True)
class Curve:
    """What one score gives.

    Args:
        name: of the score.
        coverage: share of the examples that is accepted at each threshold, rising to 1.
        risk: share of the accepted that is wrong.
        chosen: coverage and risk at the threshold that was chosen for the target; None where there is none.
    """

    name: str
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    chosen: Point | None


@dataclass(frozen=True)
class RiskCoverage:
    """Risk over coverage, a curve for each score, and the target.

    Args:
        split: that was measured.
        target: risk that was asked for.
        examples: of the split.
        curves: one or more.
    """

    split: str
    target: float
    examples: int
    curves: tuple[Curve, ...]

    def draw(self) -> "Figure":
        """The curves; dots where the chosen thresholds lie."""
        whole = figure(WIDTH, 3.3 + 0.18 * -(-len(self.curves) // SIDE_BY_SIDE))
        title(whole, f"{short(self.split)}: errors among the answers that are given")
        axes = whole.subplots()
        for place, curve in enumerate(self.curves):
            colour = colour_of(place)
            look: dict[str, Any] = {"color": colour, "linestyle": line_of(place), "linewidth": 1.6}
            axes.plot(curve.coverage, curve.risk, label=short(curve.name), **look)
            if curve.chosen is not None:
                coverage, risk = curve.chosen
                axes.plot([coverage], [risk], color=colour, marker="o", markersize=6, clip_on=False)
        axes.axhline(self.target, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        highest = max(self.target, *(curve.risk[-1] for curve in self.curves))
        axes.set(xlim=(0, 1), ylim=(0, 1.25 * highest))
        percent_axis(axes, "x")
        _small_percent_axis(axes)
        note(axes, f"target {100 * self.target:g} %", (0, self.target), (4, 3), ("axes fraction", "data"))
        note(axes, f"{self.examples:,} examples; dots: threshold chosen on the calibration split", (0, 1), (4, 4))
        tidy(axes)
        name_axes(axes, x="coverage (%)", y="risk (%)")
        legend(whole, loc="outside lower left", ncols=SIDE_BY_SIDE)
        return whole


def _small_percent_axis(axes: "Axes") -> None:
    """Shares on the y axis as percentages, which may all be below one."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
