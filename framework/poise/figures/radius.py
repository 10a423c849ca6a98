"""How accuracy falls as the attacker may do more."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poise.attacks.threat import in_pixels
from poise.figures.canvas import (
    INK,
    WIDTH,
    colour_of,
    figure,
    legend,
    name_axes,
    note,
    percent_axis,
    short,
    tidy,
    title,
    wilson,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NORMS = {"linf": "ℓ∞", "l2": "ℓ2"}


@dataclass(frozen=True)
class Radius:
    """Accuracy over the radius of the threat, with Wilson's intervals at 95 %, and the threat's own radius marked.

    Calibrators that change no prediction have no curve of their own.

    Args:
        split: that was measured.
        attack: its name, such as `pgd-20`.
        norm: of the threat.
        eps: its radius, in input units.
        radii: at which accuracy was measured, rising from 0, in input units.
        columns: accuracies in 0…1, one for each radius, by the name of the report's column; the uncalibrated first.
        examples: that each accuracy is of.
    """

    split: str
    attack: str
    norm: str
    eps: float
    radii: tuple[float, ...]
    columns: tuple[tuple[str, tuple[float, ...]], ...]
    examples: int

    def draw(self) -> "Figure":
        """The curves."""
        whole = figure(WIDTH, 3.4)
        title(whole, f"{short(self.split)}: accuracy under {self.attack}")
        axes = whole.subplots()
        scale, unit = (255, "/255") if self.norm == "linf" and in_pixels(self.eps) else (1, "")
        x = [scale * radius for radius in self.radii]
        own = self.columns[0][1]
        drawn = [place for place, (_, accuracy) in enumerate(self.columns) if place == 0 or accuracy != own]
        for place in drawn:
            name, accuracy = self.columns[place]
            self._curve(axes, x, accuracy, colour_of(place), name)
        self._mark(axes, scale * self.eps, f"eps = {scale * self.eps:.3g}{unit}")
        axes.set(xlim=(0, max(x)), ylim=(0, 1))
        percent_axis(axes, "y")
        tidy(axes)
        name_axes(axes, x=f"{NORMS.get(self.norm, self.norm)} radius{f' ({unit})' if unit else ''}", y="accuracy (%)")
        if len(drawn) > 1:
            legend(axes, loc="upper right")
        return whole

    def _curve(self, axes: "Axes", x: list[float], accuracy: tuple[float, ...], colour: str, name: str) -> None:
        low, high = zip(*(wilson(value, self.examples) for value in accuracy), strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        look: dict[str, Any] = {"linewidth": 1.8, "marker": "o", "markersize": 4.5, "clip_on": False}
        axes.plot(x, accuracy, color=colour, label=short(name), **look)

    def _mark(self, axes: "Axes", eps: float, label: str) -> None:
        axes.axvline(eps, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        note(axes, label, (eps, 0), (4, 4), ("data", "axes fraction"))
        note(axes, f"{self.examples:,} examples", (0, 0), (4, 4))
