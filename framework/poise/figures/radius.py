"""How accuracy falls as the attacker may do more."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poise.attacks.threat import in_pixels
from poise.figures.canvas import (
    COLOURS,
    GRID,
    INK,
    WIDTH,
    colour_of,
    figure,
    legend,
    line_of,
    log_axes,
    name_axes,
    note,
    percent_axis,
    short,
    tidy,
    title,
    whiskers,
    wilson,
)
from poise.robustness.power_law import FEWEST, LEAST, MOST, PowerLaw, fits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAW = COLOURS[1]
NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}


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
        errors: at each radius, the share that the attack makes wrong of what is right as it is; none for no panel.
        law: fitted to those that are fit for it; None where they were too few.
    """

    split: str
    attack: str
    norm: str
    eps: float
    radii: tuple[float, ...]
    columns: tuple[tuple[str, tuple[float, ...]], ...]
    examples: int
    errors: tuple[float, ...] = ()
    law: PowerLaw | None = None

    def draw(self) -> "Figure":
        """The curves; and beside them, where errors are known, how errors grow, both axes logarithmic."""
        panels = 2 if self.errors else 1
        whole = figure(WIDTH if panels == 1 else 1.7 * WIDTH, 3.4)
        title(whole, f"{short(self.split)}: accuracy under {self.attack}")
        axes = whole.subplots(1, panels, squeeze=False)[0]
        self._curves(axes[0])
        if self.errors:
            self._growth(axes[1])
        return whole

    @property
    def _unit(self) -> tuple[int, str]:
        """What radii are multiplied by, and what stands behind them."""
        return (255, "/255") if self.norm == "linf" and in_pixels(self.eps) else (1, "")

    def _name_radii(self, axes: "Axes", y: str) -> None:
        _, unit = self._unit
        name_axes(axes, x=f"{NORMS.get(self.norm, self.norm)} radius{f' ({unit})' if unit else ''}", y=y)

    def _curves(self, axes: "Axes") -> None:
        scale, unit = self._unit
        x = [scale * radius for radius in self.radii]
        own = self.columns[0][1]
        drawn = [place for place, (_, accuracy) in enumerate(self.columns) if place == 0 or accuracy != own]
        for place in drawn:
            name, accuracy = self.columns[place]
            self._curve(axes, x, accuracy, place, name)
        self._mark(axes, scale * self.eps, f"eps = {scale * self.eps:.3g}{unit}")
        axes.set(xlim=(0, max(x)), ylim=(0, 1))
        percent_axis(axes, "y")
        tidy(axes)
        self._name_radii(axes, "accuracy (%)")
        if len(drawn) > 1:
            legend(axes, loc="upper right")

    def _growth(self, axes: "Axes") -> None:
        """Errors over the radius, with Wilson's intervals; those that the law is fitted to are filled, in the band."""
        scale, _ = self._unit
        points = [(r, error) for r, error in zip(self.radii, self.errors, strict=True) if r > 0 and error > 0]
        axes.axhspan(LEAST, MOST, color=GRID, alpha=0.5, linewidth=0)
        right = round(self.columns[0][1][0] * self.examples)
        for radius, error in points:
            face = colour_of(0) if fits(radius, error) else "white"
            whisker = whiskers([error], [right])
            look: dict[str, Any] = {"marker": "o", "markersize": 5, "markerfacecolor": face, "elinewidth": 0.8}
            axes.errorbar([scale * radius], [error], whisker, color=colour_of(0), capsize=1.6, zorder=3, **look)
        self._law(axes)
        axes.axvline(scale * self.eps, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        log_axes(axes, [scale * radius for radius, _ in points], (LEAST / 2, 1))
        tidy(axes)
        self._name_radii(axes, "right examples made wrong (%)")

    def _law(self, axes: "Axes") -> None:
        told = f"no power law: fewer than {FEWEST} radii with errors in the band of {100 * LEAST:g}…{100 * MOST:g} %"
        if self.law is not None:
            law, ends = self.law, (self.law.low, self.law.high)
            axes.plot([self._unit[0] * r for r in ends], [law.at(r) for r in ends], color=LAW, linewidth=1.8, zorder=2)
            told = f"share = {law.factor:.3g} · radius^{law.exponent:.2f} in input units,  R² = {law.r2:.3f}"
        note(axes, told, (0, 1), (0, 4))

    def _curve(self, axes: "Axes", x: list[float], accuracy: tuple[float, ...], place: int, name: str) -> None:
        low, high = zip(*(wilson(value, self.examples) for value in accuracy), strict=True)
        axes.fill_between(x, low, high, color=colour_of(place), alpha=0.18, linewidth=0)
        look: dict[str, Any] = {"linewidth": 1.8, "marker": "o", "markersize": 4.5, "clip_on": False}
        axes.plot(x, accuracy, color=colour_of(place), linestyle=line_of(place), label=short(name), **look)

    def _mark(self, axes: "Axes", eps: float, label: str) -> None:
        axes.axvline(eps, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        note(axes, label, (eps, 0), (4, 4), ("data", "axes fraction"))
        note(axes, f"{self.examples:,} examples", (0, 0), (4, 4))
