"""What is told of a trained model, as text, as a page and as figures."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Drawn
from rich.text import Text

from poise.evaluator import Drawing, Findings
from poise.figures.canvas import save
from poise.page import page, placed
from poise.scores import KINDS, SHIFTS, VALIDATION, Row, Sheet, Table, by_shift, marked, sheets, shifts_of
from poise.secrets import redact

if TYPE_CHECKING:
    from poise.data.dataset import Splits

log = logging.getLogger("poise")

BEST = "*"
MANY = 7  # columns of a table that takes the room it needs
WIDEST = 10_000  # characters
LONGEST = 100  # characters of a file's name
LONGEST_WORD = 40  # characters of a row's name that may stay whole where others need the room
_NOT_IN_FILES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Use:
    """What a split was used for."""

    split: str
    examples: int
    purpose: str


@dataclass(frozen=True)
class Report:
    """All that is told.

    Args:
        title: such as the name of the run.
        findings: final metrics, flat, and figures by name; those called `<split>-…` stand with their split.
        calibrators: names, in order.
        remarks: sentences: which calibrator is shipped and why, what the attacks were, what to be wary of.
        uses: what each split was used for.
        config: the text of `config.yaml`.
        about: what was trained on what, in a line.
        shipped: the column that is shipped, a calibrator or 'uncalibrated'; "" where none is.
    """

    title: str
    findings: Findings
    calibrators: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    uses: tuple[Use, ...] = ()
    config: str = ""
    about: str = ""
    shipped: str = ""

    def text(self, room: int | None = None) -> str:
        """As `render` gives it, which `room` is for, and where the names are explained."""
        explained = ["report.html says what the names in these tables mean."] if self.findings.meanings else []
        remarks, tables = [*self.remarks, *explained], self.findings.tables
        return render(self.findings.metrics, self.calibrators, remarks, tables, shipped=self.shipped, room=room)


def render(
    metrics: Mapping[str, float],
    calibrators: Sequence[str],
    remarks: Sequence[str] = (),
    tables: Mapping[str, Table] | None = None,
    width: int = 100,
    colour: bool = False,
    shipped: str = "",
    room: int | None = None,
) -> str:
    """The report tables of what was evaluated, as text.

    Of many classes the worst are shown; named shifts have their tables together.

    Args:
        metrics: flat, `<split>/<metric>` and `<split>/<calibrator>/<metric>`.
        calibrators: names, in order.
        remarks: what is said below.
        tables: further ones by name; those called `<split>-…` stand with their split, others at the end.
        width: that tables take at most, in characters, but for those of many columns or long words.
        colour: whether it is for a terminal.
        shipped: the column to mark.
        room: characters of a line: words are broken where it would not do; None for any number.
    """
    text = StringIO()
    console = Console(file=text, width=width, force_terminal=colour, no_color=not colour, highlight=False, emoji=False)
    for table in _tables(sheets(metrics, calibrators), tables or {}):
        told = marked(table, shipped)
        drawn = _drawn(told, whole=True)
        least, most = _needed(drawn)
        if room is not None and least > room:
            drawn = _drawn(told, whole=False)
            least, most = 0, _needed(drawn)[1]
        console.width = max(width, most if len(table.headings) > MANY else least)
        console.print(drawn)
        console.print(escape(_below(table)))
    console.width = width
    for remark in remarks:
        console.print(escape(remark))
    return text.getvalue()


def _tables(found: Sequence[Sheet], further: Mapping[str, Table]) -> Iterator[Table]:
    """Those that have rows; named shifts have theirs together where their means were measured."""
    shifts = by_shift(found)
    left_out = {VALIDATION, SHIFTS, *shifts_of(found)} if shifts else {VALIDATION}
    at = placed(further, [sheet.split for sheet in found if sheet.split not in left_out])
    for sheet in found:
        if sheet.split not in left_out:
            tables = (sheet.scores(), sheet.attacked(), *at[sheet.split].values(), *map(sheet.parts, KINDS))
            yield from (table for table in tables if table is not None and table.rows)
    yield from (*shifts, *at[None].values())


def used(splits: "Splits", calibrators: Sequence[str], selection: str | None = None) -> tuple[Use, ...]:
    """What each split was used for.

    Args:
        splits: the data.
        calibrators: names of those fitted.
        selection: the validation metric that chose the epoch; None for a model that was not trained here.
    """
    purposes = {"train": "trained on", "val": f"chose the epoch, by {selection}"} if selection else {}
    if calibrators:
        purposes["calibration"] = f"fitted {', '.join(calibrators)}"
    measured = {"test": splits.test, **splits.shifts}
    uses = [Use(name, len(splits.main[name]), purpose) for name, purpose in purposes.items()]
    uses += [Use(name, len(data), "measured") for name, data in measured.items()]
    return (*uses, *(Use(name, len(data), "other things, of no class") for name, data in splits.ood.items()))


def write(report: Report, directory: Path) -> None:
    """Write `report.txt`, `report.html` and `figures/*.png`. What cannot be drawn or written is said, and left out.

    `report.json` is not written here: it says that a run is over, so it comes last.
    """
    with _spared("report.txt"):
        _write(directory / "report.txt", redact(report.text()))
    pictures = _draw(report.findings.figures, directory / "figures")
    with _spared("report.html"):
        _write(directory / "report.html", page(report, pictures))


def _draw(figures: Mapping[str, Drawing], folder: Path) -> dict[str, Path]:
    """Draw each figure that can be drawn; the files by name."""
    drawn: dict[str, Path] = {}
    for name, drawing in figures.items():
        path = folder / f"{_NOT_IN_FILES.sub('_', name)[:LONGEST]}.png"
        with _spared(f"the figure {name}"):
            folder.mkdir(exist_ok=True)
            save(drawing, path)
            drawn[name] = path
    return drawn


@contextmanager
def _spared(what: str) -> Iterator[None]:
    """Whatever goes wrong is said and passed over: neither a picture nor a page is worth a run."""
    try:
        yield
    except Exception as error:
        log.warning("%s cannot be made: %s: %s", what, type(error).__name__, error)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="replace")


def _drawn(table: Table, whole: bool) -> Drawn:
    """With room for all words of headings and names, up to a limit, and for all cells, where they stay whole."""
    title, (first, *columns) = escape(table.title), map(escape, table.headings)
    drawn = Drawn(title=title, title_justify="left", title_style="bold", header_style="bold", box=box.HEAVY_HEAD)
    names = " ".join([first, *(escape(row.name) for row in table.rows)]).split()
    least = min(LONGEST_WORD, _longest(names)) if whole else None
    drawn.add_column(first, overflow="fold", min_width=least)
    rows = [list(_marked(row)) for row in table.rows]
    for place, column in enumerate(columns):
        least = _longest([*column.split(), *(row[place] for row in rows)]) if whole else None
        drawn.add_column(column, justify="right", overflow="fold", min_width=least)
    for row, cells in zip(table.rows, rows, strict=True):
        drawn.add_row(escape(row.name), *cells)
    return drawn


def _longest(texts: Iterable[str]) -> int:
    """Characters that the longest of some texts in markup takes."""
    return max((cell_len(Text.from_markup(text).plain) for text in texts), default=0)


def _needed(table: Drawn) -> tuple[int, int]:
    """The least width of a table, and that in which it has no line that goes on below."""
    least, most = Console(width=WIDEST).measure(table)
    return least, most


def _marked(row: Row) -> Iterator[str]:
    for place, cell in enumerate(row.cells):
        yield f"[bold]{BEST} {escape(cell)}[/bold]" if place in row.best else escape(cell)


def _below(table: Table) -> str:
    """What the marks mean, and what is left out."""
    marked = any(row.best for row in table.rows)
    return "".join(f"{line}\n" for line in (f"{BEST} best of its row" if marked else "", table.note) if line)
