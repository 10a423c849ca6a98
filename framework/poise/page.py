"""A report as one page that needs nothing else: no file, no script, no network."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from poise.figures.canvas import DPI
from poise.scores import FEW, KINDS, SHIFTS, TEST, VALIDATION, Row, Sheet, Table, by_shift, marked, sheets
from poise.secrets import redact

if TYPE_CHECKING:
    from poise.report import Report, Use

STYLE = Path(__file__).with_name("page.css")
PIXELS = 96  # of a page, an inch
MANY = 9  # columns of a table that has room
WARNING = "Warning: "  # with which a remark begins that is one
BEST = "bold green: best of its row"

Thing = TypeVar("Thing")

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def page(report: "Report", pictures: Mapping[str, Path]) -> str:
    """The page as HTML: no secrets are in it, and every name stands in it as text.

    Args:
        report: what is told.
        pictures: PNG files by the name of the figure; they are put into the page.
    """
    found = sheets(report.findings.metrics, report.calibrators)
    measured = {sheet.split: sheet for sheet in found if sheet.split not in (VALIDATION, SHIFTS)}
    at = placed(pictures, [*measured, SHIFTS])
    tables = {name: marked(table, report.shipped) for name, table in report.findings.tables.items()}
    further = placed(tables, [*measured, SHIFTS])
    body = [*_head(report)]
    together = [marked(table, report.shipped) for table in by_shift(found)]
    sections = []
    for split, sheet in measured.items():
        parts = _parts(sheet, report.shipped, further[split], at[split])
        sections.append(_section(split, _closed(parts) if together and split != TEST else parts))
    shifts = [*map(_table, together), *map(_titled, further[SHIFTS].values()), *_figures(at[SHIFTS])]
    if shifts:  # before each of them, after test
        sections.insert(1, _section(SHIFTS, shifts))
    body += sections
    if further[None]:
        body.append(_section("Further", map(_titled, further[None].values())))
    if report.findings.meanings:
        body.append(_section("What the names mean", [_meanings(report.findings.meanings)]))
    chosen = [_table(_of_epoch(sheet.scores())) for sheet in found if sheet.split == VALIDATION]
    if at[None] or chosen:
        body.append(_section("Training", [*_figures(at[None]), *chosen]))
    if report.uses:
        body.append(_section("Data", [_uses(report.uses)]))
    if report.config:
        body.append(_section("Settings", [f"<pre>{_text(report.config)}</pre>"]))
    return _PAGE.format(title=_text(report.title), style=STYLE.read_text(encoding="utf-8"), body="\n".join(body))


def _head(report: "Report") -> Iterator[str]:
    """What it is of, what to be wary of, and all other remarks."""
    yield f"<h1>{_text(report.title)}</h1>"
    if report.about:
        yield f"<p class=about>{_text(report.about)}</p>"
    yield from (f"<p class=warning>{_text(line)}</p>" for line in report.remarks if line.startswith(WARNING))
    yield from (f"<p>{_text(line)}</p>" for line in report.remarks if not line.startswith(WARNING))


def placed(things: Mapping[str, Thing], splits: Iterable[str]) -> dict[str | None, dict[str, Thing]]:
    """Pictures or tables of each split, `<split>-…`, and under None those of no split."""
    at: dict[str | None, dict[str, Thing]] = {None: {}, **{split: {} for split in splits}}
    for name, thing in things.items():
        owners = [split for split in at if split is not None and name.startswith(f"{split}-")]
        at[max(owners, key=len, default=None)][name] = thing
    return at


def _section(title: str, parts: Iterable[str]) -> str:
    return "\n".join([f"<section>\n<h2>{_text(title)}</h2>", *parts, "</section>"])


def _closed(parts: Iterable[str]) -> Iterator[str]:
    """What is told elsewhere in short: there for who asks for it."""
    yield "<details><summary>all of it</summary>"
    yield from parts
    yield "</details>"


def _parts(sheet: Sheet, shipped: str, further: Mapping[str, Table], pictures: Mapping[str, Path]) -> Iterator[str]:
    """The tables of a split, each with the pictures of what it tells."""
    kinds = {kind: table for kind in KINDS if (table := sheet.parts(kind, few=None)) is not None}
    scores, attacked = marked(sheet.scores(), shipped), marked(sheet.attacked(), shipped)
    further = {**({f"{sheet.split}-attacked": attacked} if attacked.rows else {}), **further}
    beside = _beside(pictures, [*further, *kinds])
    if scores.rows or beside[None]:
        yield _together([_table(scores)] if scores.rows else [], beside[None])
    for name, table in further.items():
        yield _together([_titled(table)], beside[name])
    for kind, table in kinds.items():
        yield _together([_titled(table, KINDS[kind])], beside[kind])


def _beside(pictures: Mapping[str, Path], tables: Iterable[str]) -> dict[str | None, dict[str, Path]]:
    """Pictures by the table that they belong to, and under None those of none."""
    at: dict[str | None, dict[str, Path]] = {None: {}, **{table: {} for table in tables}}
    for name, picture in pictures.items():
        at[_owner(name, [table for table in at if table is not None])][name] = picture
    return at


def _owner(picture: str, tables: Sequence[str]) -> str | None:
    """The table that a picture belongs to.

    `test-conformal-sizes` belongs to `test-conformal`, `test-ood` to the last of `test-ood-…`, and
    `test-accuracy-by-class` to the table of classes.
    """
    begins_it = [table for table in tables if f"{picture}-".startswith(f"{table}-")]
    begun_by_it = [table for table in tables if table.startswith(f"{picture}-")]
    parts = [table for table in tables if picture.endswith(f"-by-{table}")]
    return next((owners[-1] for owners in (begins_it, begun_by_it, parts) if owners), None)


def _together(tables: Iterable[str], pictures: Mapping[str, Path]) -> str:
    """What belongs together: side by side where there is room."""
    return "\n".join(["<div>", *tables, *_figures(pictures), "</div>"])


def _titled(table: Table, lines: str = "lines") -> str:
    return f"<h3>{_text(table.title)}</h3>\n{_folded(table, lines)}"


def _folded(table: Table, lines: str) -> str:
    """A table, closed where it is long."""
    shown, count = _table(table), len(table.rows)
    return f"<details><summary>{count} {lines}</summary>{shown}</details>" if count > FEW else shown


def _table(table: Table) -> str:
    head = "".join(f"<th scope=col>{_name(heading)}</th>" for heading in table.headings)
    lines = []
    for row in table.rows:
        cells = (
            f"<td class=best>{_text(cell)}</td>" if place in row.best else f"<td>{_text(cell)}</td>"
            for place, cell in enumerate(row.cells)
        )
        lines.append(f"<tr><th scope=row>{_name(row.name)}</th>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    told = "; ".join(filter(None, [BEST if any(row.best for row in table.rows) else "", table.note]))
    note = f"<caption>{_text(told)}</caption>\n" if told else ""
    opened = "<table class=tight>" if len(table.headings) > MANY else "<table>"
    inside = f"{note}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f"<div class=wide>{opened}\n{inside}\n</table></div>"


def _figures(pictures: Mapping[str, Path]) -> Iterator[str]:
    for name, path in pictures.items():
        picture = path.read_bytes()
        width = round(int.from_bytes(picture[16:20]) * PIXELS / DPI)  # where PNG has it
        source = f"data:image/png;base64,{b64encode(picture).decode()}"
        yield f'<figure><img width={width} alt="{_text(name)}" src="{source}"></figure>'


def _meanings(meanings: Mapping[str, str]) -> str:
    lines = (f"<dt>{_text(name)}</dt><dd>{_text(told)}</dd>" for name, told in meanings.items())
    return "\n".join(["<dl>", *lines, "</dl>"])


def _of_epoch(table: Table) -> Table:
    return replace(table, headings=(table.headings[0], "chosen epoch"))


def _uses(uses: Iterable["Use"]) -> str:
    rows = (Row(f"{use.split}: {use.purpose}", (f"{use.examples:,}",)) for use in uses)
    return _table(Table("Data", ("split", "examples"), tuple(rows)))


def _name(text: str) -> str:
    """A name that may go on in the next line."""
    return _text(text).replace("_", "_<wbr>")


def _text(text: str) -> str:
    return escape(redact(text))
