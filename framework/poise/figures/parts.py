"""Which classes, or groups, a model does well on and which it leaves behind."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poise.figures.canvas import (
    ATTACKED,
    CLEAN,
    INK,
    WIDTH,
    WORST,
    figure,
    legend,
    name_axes,
    note,
    percent_axis,
    short,
    tidy,
    title,
    whiskers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 40  # parts that are all shown
ENDS = 15  # of more, so many of the worst and so many of the best
PLURAL = {"class": "classes", "group": "groups", "shift": "shifts"}


@dataclass(frozen=True)
class Measure:
    """One measure of every part.

    Args:
        name: such as `clean` or `pgd-20`.
        of_parts: in 0…1, one for each part; nan for a part without examples.
        overall: over all examples.
    """

    name: str
    of_parts: tuple[float, ...]
    overall: float


@dataclass(frozen=True)
class Parts:
    """Accuracy of each class, group or shift as bars, the worst on top, its name marked.

    Whiskers are Wilson's intervals at 95 %. Parts without examples are left out; of more than 40, the 15 worst and
    the 15 best by the last measure are shown.

    Args:
        split: that was measured.
        kind: of parts: `class`, `group` or `shift`.
        names: of the parts.
        counts: examples of each.
        measures: one or two: on inputs as they are, then under attack.
    """

    split: str
    kind: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    measures: tuple[Measure, ...]

    def draw(self) -> "Figure":
        """The bars."""
        order = self._order()
        shown = order if len(order) <= MOST else [*order[:ENDS], *order[-ENDS:]]
        slot = len(self.measures) + 0.5
        whole = figure(WIDTH, 1.4 + max(0.7, 0.165 * slot * len(shown)))
        under = "".join(f" under {measure.name}" for measure in self.measures[1:])
        title(whole, f"{short(self.split)}: accuracy by {self.kind}{under}")
        axes = whole.subplots()
        tops = [slot * (place + (place >= ENDS and len(shown) < len(order))) for place in range(len(shown))]
        for place, measure in enumerate(self.measures):
            self._bars(axes, measure, shown, [top + place for top in tops], (CLEAN, ATTACKED)[place])
        self._label(axes, shown, [top + (len(self.measures) - 1) / 2 for top in tops])
        if len(shown) < len(order):
            between = f"⋮  {len(order) - len(shown)} {PLURAL[self.kind]} between these are not shown"
            note(axes, between, (0, tops[ENDS] - slot), (6, 0), ("axes fraction", "data"), va="center")
        axes.set(xlim=(0, 1), ylim=(tops[-1] + len(self.measures), -1) if tops else (1, 0))
        legend(whole, loc="outside lower left", ncols=2)
        return whole

    def _order(self) -> list[int]:
        """The parts that have examples, the worst first."""
        last = self.measures[-1].of_parts
        return sorted((part for part, value in enumerate(last) if not math.isnan(value)), key=lambda part: last[part])

    def _bars(self, axes: "Axes", measure: Measure, shown: list[int], y: list[float], colour: str) -> None:
        values = [measure.of_parts[part] for part in shown]
        axes.barh(y, values, 0.86, color=colour, label=f"{measure.name}, {100 * measure.overall:.1f} % overall")
        axes.axvline(measure.overall, color=colour, linewidth=1, linestyle=(0, (4, 3)), zorder=0.9)
        whisker = whiskers(values, [self.counts[part] for part in shown])
        axes.errorbar(values, y, xerr=whisker, fmt="none", ecolor=INK, elinewidth=0.8, capsize=1.6)
        for value, height in zip(values, y, strict=True):
            at: dict[str, Any] = {"ha": "right", "va": "center", "color": INK}
            note(axes, f"{100 * value:.1f}", (1, height), (30, 0), ("axes fraction", "data"), **at)

    def _label(self, axes: "Axes", shown: list[int], y: list[float]) -> None:
        names = [f"{short(self.names[part])}  ({self.counts[part]:,})" for part in shown]
        percent_axis(axes, "x")
        tidy(axes, "x")
        axes.set_yticks(y, names, parse_math=False)
        axes.tick_params(axis="y", length=0)
        for label in axes.get_yticklabels()[:1]:
            label.set(color=WORST, fontweight="bold")
        name_axes(axes, x="accuracy (%)", y=f"{self.kind} (examples)")
