"""What scores flag of strange examples, over what they flag of usual ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poise.figures.canvas import (
    QUIET,
    SMALL,
    colour_of,
    figure,
    legend,
    line_of,
    name_axes,
    panel_title,
    percent_axis,
    short,
    tidy,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 3  # panels side by side
ROLES = ("usual", "strange")


@dataclass(frozen=True)
class Curve:
    """What one score flags.

    Args:
        usual: share of the usual examples at each threshold, rising from 0 to 1.
        strange: share of the strange ones, likewise.
        auroc: the area below the curve.
    """

    usual: tuple[float, ...]
    strange: tuple[float, ...]
    auroc: float


@dataclass(frozen=True)
class Panel:
    """What is to be told apart.

    Args:
        kind: of strange examples, such as `semantic shift`.
        name: of their split; "" where it goes without saying.
        usual: how many examples are usual.
        strange: how many are strange.
        curves: by score; the first is the baseline.
        words: what usual and strange ones are called, where by other names.
    """

    kind: str
    name: str
    usual: int
    strange: int
    curves: Mapping[str, Curve]
    words: tuple[str, str] | None = None

    @property
    def told(self) -> str:
        """How many there are of each, in a line."""
        usual, strange = ROLES
        if self.words is not None:
            usual, strange = (f"{word} ({role})" for word, role in zip(self.words, ROLES, strict=True))
        return f"{self.usual:,} {usual}, {self.strange:,} {strange}"


@dataclass(frozen=True)
class Roc:
    """Receiver operating characteristics, a panel for each kind of strange examples, a curve for each score.

    Args:
        split: whose examples are the usual ones.
        panels: one or more, with the same scores.
    """

    split: str
    panels: tuple[Panel, ...]

    def draw(self) -> "Figure":
        """The panels, in rows of three."""
        across, down = min(ACROSS, len(self.panels)), -(-len(self.panels) // ACROSS)
        whole = figure(0.9 + 3.0 * across, 0.6 + 3.3 * down)
        title(whole, f"{short(self.split)}: what uncalibrated scores flag")
        axes = whole.subplots(down, across, squeeze=False).flatten()
        for place, panel in enumerate(self.panels):
            _draw(axes[place], panel)
            left, lowest = place % across == 0, place + across >= len(self.panels)
            name_axes(axes[place], x="usual flagged (%)" if lowest else "", y="strange flagged (%)" if left else "")
        for empty in axes[len(self.panels) :]:
            empty.set_axis_off()
        return whole


def _draw(axes: "Axes", panel: Panel) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
    for place, (score, curve) in enumerate(panel.curves.items()):
        label = f"{short(score)}  {curve.auroc:.3f}"
        look: dict[str, Any] = {"color": colour_of(place), "linestyle": line_of(place), "linewidth": 1.5}
        axes.plot(curve.usual, curve.strange, label=label, **look)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for which in ("x", "y"):
        percent_axis(axes, which)
    tidy(axes)
    split = f"{short(panel.name)}: " if panel.name else ""
    panel_title(axes, panel.kind, below=f"{split}{panel.told}")
    legend(axes, loc="lower right", title="area below", title_fontsize=SMALL)
