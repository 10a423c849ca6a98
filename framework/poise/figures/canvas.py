"""What drawings have in common: sizes, colours, axes without clutter, and how a picture is saved.

Figures are made without pyplot and without rc settings, so nothing of a caller's matplotlib changes, and each is free
when it is no longer held.
"""

import math
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from poise.evaluator import Drawing

INK, QUIET, GRID = "#222222", "#6b6b6b", "#e3e3e3"
UNCALIBRATED = "#5f6b76"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, told apart by everyone
CLEAN, ATTACKED, WORST = "#0072b2", "#d55e00", "#b3001b"
TITLE, LABEL, SMALL = 10.5, 9.0, 8.0  # points
DPI = 160
WIDTH = 5.0  # inches of a figure of one panel
LONGEST_NAME = 28  # characters
ACROSS = 4  # panels side by side
LINES = ("solid", (0, (5, 2)), (0, (1, 1.2)))  # of curves that have a colour in common


def figure(width: float, height: float) -> "Figure":
    """An empty figure on white, sizes in inches, that lays itself out when it is saved."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def colour_of(column: int) -> str:
    """The colour of a column of the report everywhere: 0 is uncalibrated, then the calibrators in order."""
    return COLOURS[(column - 1) % len(COLOURS)] if column else UNCALIBRATED


def line_of(column: int) -> Any:
    """The style of its curves: with the colour, which many columns share, it tells 18 calibrators apart."""
    return LINES[max(0, column - 1) // len(COLOURS) % len(LINES)]


def rows_and_columns(panels: int) -> tuple[int, int]:
    """How so many panels stand: no more than four side by side, in rows that are as alike as can be."""
    rows = -(-panels // ACROSS)
    return rows, -(-panels // rows)


def tidy(axes: "Axes", grid: Literal["x", "y", "both"] = "both") -> None:
    """Light grid behind the data on the axes named, two quiet spines, small ticks."""
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=QUIET, linewidth=0.8)
    axes.tick_params(colors=QUIET, labelcolor=INK, labelsize=SMALL, length=3, width=0.8)


def name_axes(axes: "Axes", x: str = "", y: str = "") -> None:
    """Name the axes that have a name: in words, never in formulas, whatever characters are in them."""
    if x:
        axes.set_xlabel(x, fontsize=LABEL, color=INK, parse_math=False)
    if y:
        axes.set_ylabel(y, fontsize=LABEL, color=INK, parse_math=False)


def title(whole: "Figure", text: str) -> None:
    """The title of a figure, at its left."""
    whole.suptitle(text, fontsize=TITLE, fontweight="bold", color=INK, x=0.01, ha="left", parse_math=False)


def panel_title(axes: "Axes", text: str, below: str) -> None:
    """The title of a panel, and a quiet line between the two."""
    axes.set_title(text, fontsize=TITLE, fontweight="bold", color=INK, loc="left", pad=18, parse_math=False)
    note(axes, below, (0, 1), (0, 5))


def note(
    axes: "Axes",
    text: str,
    at: tuple[float, float],
    shift: tuple[float, float],
    unit: str | tuple[str, str] = "axes fraction",
    **options: Any,
) -> None:
    """A quiet line of text near a place, in the unit of `annotate`, shifted by points."""
    look: dict[str, Any] = {"fontsize": SMALL, "color": QUIET, "parse_math": False, **options}
    axes.annotate(text, at, shift, unit, "offset points", **look)


def legend(owner: "Axes | Figure", **options: Any) -> None:
    """A legend of a panel, or of a figure with one; hides nothing behind it."""
    look = {"edgecolor": "none", "facecolor": "white", "framealpha": 0.8, "borderpad": 0.2, "handlelength": 1.6}
    drawn = owner.legend(fontsize=SMALL, labelcolor=INK, **{**look, **options})
    for text in drawn.get_texts():
        text.set_parse_math(False)


def percent_axis(axes: "Axes", which: Literal["x", "y"]) -> None:
    """Shares in 0…1 written as percentages, without their sign, on the axis named."""
    from matplotlib.ticker import PercentFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=None))


def log_axis(axes: "Axes", values: Sequence[float]) -> None:
    """A logarithmic y axis where the values span more than a factor of ten, its ticks written as people do."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(values), max(values)
    if low <= 0 or high <= 10 * low:
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 500 * low else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def log_axes(axes: "Axes", x: Sequence[float], shares: tuple[float, float]) -> None:
    """Both axes logarithmic, with ticks as people write them: x around its values, y shares as percentages."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(xscale="log", yscale="log", ylim=shares)
    if x:
        axes.set_xlim(min(x) / 1.3, max(x) * 1.3)
    close = bool(x) and max(x) < 100 * min(x)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if close else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


def step_axis(axes: "Axes") -> None:
    """Ticks of the x axis at whole numbers, thousands and millions abbreviated."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _counted(value)))


def _counted(value: float) -> str:
    if value < 1e4:
        return f"{value:g}"
    return f"{value / 1e3:g}k" if value < 1e6 else f"{value / 1e6:g}M"


def short(name: str) -> str:
    """A name on one line, cut where it is too long to stand at a bar."""
    line = " ".join(name.split()) or "(no name)"
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Both ends of the interval, at 95 %, for the probability of which a share of `count` trials was seen.

    Wilson: Probable inference, the law of succession, and statistical inference, 1927. (0, 1) without trials.
    """
    if count == 0:
        return 0.0, 1.0
    shrink = 1 + z**2 / count
    centre = (share + z**2 / (2 * count)) / shrink
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / shrink
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def whiskers(shares: Sequence[float], counts: Sequence[int]) -> tuple[list[float], list[float]]:
    """How far Wilson's intervals reach below and above each share, as `errorbar` takes them."""
    ends = [wilson(share, count) for share, count in zip(shares, counts, strict=True)]
    below = [share - low for share, (low, _) in zip(shares, ends, strict=True)]
    return below, [high - share for share, (_, high) in zip(shares, ends, strict=True)]


def save(drawing: "Drawing", path: Path | BytesIO) -> None:
    """Draw into a PNG file, or into memory, the same bytes for the same numbers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")  # a name in a script that the font lacks
        drawing.draw().savefig(path, format="png", metadata={"Software": None})
