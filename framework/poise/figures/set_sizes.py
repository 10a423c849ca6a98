"""How many labels are in the sets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from poise.figures.canvas import COLOURS, figure, legend, name_axes, panel_title, percent_axis, short, tidy, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 20  # labels up to which the axis is an even one


@dataclass(frozen=True)
class Sizes:
    """The sets of one rule.

    Args:
        rule: its name.
        counts: how many sets have each size, from 0 to C.
        coverage: share of them with the true label.
    """

    rule: str
    counts: tuple[int, ...]
    coverage: float

    @property
    def told(self) -> str:
        """Its line of the legend."""
        mean = sum(size * count for size, count in enumerate(self.counts)) / sum(self.counts)
        return f"{self.rule}: {mean:.3g} labels, {100 * self.coverage:.1f} % covered"


@dataclass(frozen=True)
class SetSizes:
    """The share of examples with sets of at most so many labels, over that number: the further left, the smaller.

    Args:
        split: that was measured.
        alpha: share of the sets, at most, that are to be without the true label.
        panels: sets of each rule, by what inputs they are of, "" where that goes without saying; all of the same
            number of classes.
    """

    split: str
    alpha: float
    panels: tuple[tuple[str, tuple[Sizes, ...]], ...]

    def draw(self) -> "Figure":
        """A panel for each kind of input."""
        count = len(self.panels)
        whole = figure(0.8 + 3.6 * count, 4.8)
        panels = whole.subplots(1, count, sharey=True, squeeze=False)[0]
        rules = list(dict.fromkeys(one.rule for _, sizes in self.panels for one in sizes))
        for axes, (name, sizes) in zip(panels, self.panels, strict=True):
            _curves(axes, sizes, rules)
            panel_title(axes, name, below=_examples(sizes))
        title(whole, f"{short(self.split)}: sizes of sets made for {100 * (1 - self.alpha):g} % coverage")
        name_axes(panels[0], y="sets of so many labels or fewer (%)")
        return whole


def _examples(sizes: tuple[Sizes, ...]) -> str:
    """How many sets there are of each rule."""
    usual, *further = (sum(one.counts) for one in sizes)
    others = zip((one.rule for one in sizes[1:]), further, strict=True)
    return ", ".join([f"{usual:,} examples", *(f"{count:,} for {rule}" for rule, count in others if count != usual)])


def _curves(axes: "Axes", sizes: tuple[Sizes, ...], rules: list[str]) -> None:
    """Steps up at each size; widths differ, so that rules whose sets are alike are all seen."""
    largest = len(sizes[0].counts) - 1
    for place, one in enumerate(sizes):
        total, shares = sum(one.counts), [0.0]
        for count in one.counts:
            shares.append(shares[-1] + count / total)
        edges = [size - 0.5 for size in range(largest + 2)]
        width = 1.2 + 0.6 * (len(sizes) - 1 - place)
        axes.stairs(
            shares[1:], edges, baseline=None, color=COLOURS[rules.index(one.rule)], linewidth=width, label=one.told
        )
    if largest > FEW:
        _stretch(axes)
    axes.set(xlim=(-0.5, largest + 0.5), ylim=(0, 1.02))
    percent_axis(axes, "y")
    tidy(axes)
    name_axes(axes, x="labels")
    legend(axes, loc="upper left", bbox_to_anchor=(-0.02, -0.14))


def _stretch(axes: "Axes") -> None:
    """Even steps up to two labels, logarithmic ones from there on."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("symlog", linthresh=2)
    axes.xaxis.set_major_locator(FixedLocator([0, *(step * 10**power for power in range(7) for step in (1, 2, 5))]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
