"""How much accuracy is proved as the radius grows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from poise.figures.canvas import (
    CLEAN,
    INK,
    WIDTH,
    figure,
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


@dataclass(frozen=True)
class Certified:
    """Certified accuracy over the ℓ2 radius, with Wilson's intervals at 95 %, and the largest radius that there can be.

    The intervals are of the examples as a sample of all; that certificates hold is a matter of alpha.

    Args:
        split: that was measured.
        method: that proves it, in words.
        sigma: of the noise, in input units.
        copies: noisy ones of each example.
        alpha: probability, at most, of a certificate that does not hold.
        reach: the largest radius that so many copies can prove, in input units.
        radii: of the examples that are certified right, rising, in input units.
        abstained: examples of which nothing is certain.
        examples: all of them.
    """

    split: str
    method: str
    sigma: float
    copies: int
    alpha: float
    reach: float
    radii: tuple[float, ...]
    abstained: int
    examples: int

    def draw(self) -> "Figure":
        """The curve: a step down at each example's radius."""
        whole = figure(WIDTH, 3.4)
        title(whole, f"{short(self.split)}: certified accuracy, {self.method}")
        axes = whole.subplots()
        limit = 1.06 * self.reach
        edges = [0.0, *self.radii, limit]
        shares = [left / self.examples for left in range(len(self.radii), -1, -1)]
        low, high = zip(*(wilson(share, self.examples) for share in (*shares, 0.0)), strict=True)
        axes.fill_between(edges, low, high, step="post", color=CLEAN, alpha=0.18, linewidth=0)
        axes.stairs(shares, edges, baseline=None, color=CLEAN, linewidth=1.8)
        self._mark(axes)
        axes.set(xlim=(0, limit), ylim=(0, 1))
        percent_axis(axes, "y")
        tidy(axes)
        name_axes(axes, x="ℓ2 radius", y="certified accuracy (%)")
        return whole

    def _mark(self, axes: "Axes") -> None:
        axes.axvline(self.reach, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        most = f"most that {self.copies:,} copies can prove"
        note(axes, most, (self.reach, 1), (-4, -10), ("data", "axes fraction"), ha="right")
        setting = f"σ = {self.sigma:g}, α = {self.alpha:g}, {self.examples:,} examples, {self.abstained:,} abstain"
        note(axes, setting, (0, 0), (4, 4))
