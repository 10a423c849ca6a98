"""A report as one page that needs nothing else: no file, no script, no network."""

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from poise.figures.canvas import DPI
from poise.scores import FEW, KINDS, SHIFTS, VALIDATION, Row, Sheet, Table, by_shift, sheets
from poise.secrets import redact

if TYPE_CHECKING:
    from poise.report import Report, Use

STYLE = Path(__file__).with_name("page.css")
PIXELS = 96  # of a page, an inch

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
    further = placed(report.findings.tables, [*measured, SHIFTS])
    body = [f"<h1>{_text(report.title)}</h1>"]
    body += [f"<p>{_text(line)}</p>" for line in report.remarks]
    sections = [_section(split, _parts(sheet, further[split], at[split])) for split, sheet in measured.items()]
    shifts = [*map(_table, by_shift(found)), *map(_titled, further[SHIFTS].values()), *_figures(at[SHIFTS])]
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


def placed(things: Mapping[str, Thing], splits: Iterable[str]) -> dict[str | None, dict[str, Thing]]:
    """Pictures or tables of each split, `<split>-…`, and under None those of no split."""
    at: dict[str | None, dict[str, Thing]] = {None: {}, **{split: {} for split in splits}}
    for name, thing in things.items():
        owners = [split for split in at if split is not None and name.startswith(f"{split}-")]
        at[max(owners, key=len, default=None)][name] = thing
    return at


def _section(title: str, parts: Iterable[str]) -> str:
    return "\n".join([f"<section>\n<h2>{_text(title)}</h2>", *parts, "</section>"])


def _parts(sheet: Sheet, further: Mapping[str, Table], pictures: Mapping[str, Path]) -> Iterator[str]:
    """The tables of a split, each with the pictures of what it tells."""
    kinds = {kind: table for kind in KINDS if (table := sheet.parts(kind, few=None)) is not None}
    scores, attacked = sheet.scores(), sheet.attacked()
    further = {**({f"{sheet.split}-attacked": attacked} if attacked.rows else {}), **further}
    beside = _beside(pictures, [*further, *kinds])
    if scores.rows or beside[None]:
        yield _together([_table(scores)] if scores.rows else [], beside[None])
    for name, table in further.items():
        yield _together([_titled(table)], beside[name])
    for kind, table in kinds.items():
        yield _together([_folded(table, KINDS[kind])], beside[kind])


def _beside(pictures: Mapping[str, Path], tables: Iterable[str]) -> dict[str | None, dict[str, Path]]:
    """Pictures by the table that they belong to, and under None those of none.

    `test-conformal-sizes` belongs to `test-conformal`, `test-ood` to the last of `test-ood-…`, and
    `test-accuracy-by-class` to the table of classes.
    """
    at: dict[str | None, dict[str, Path]] = {None: {}, **{table: {} for table in tables}}
    for name, picture in pictures.items():
        owners = [table for table in at if table is not None and _belongs(name, table)]
        at[owners[-1] if owners else None][name] = picture
    return at


def _belongs(picture: str, table: str) -> bool:
    return f"{picture}-".startswith(f"{table}-") or table.startswith(f"{picture}-") or picture.endswith(f"-by-{table}")


def _together(tables: Iterable[str], pictures: Mapping[str, Path]) -> str:
    """What belongs together: side by side where there is room."""
    return "\n".join(["<div>", *tables, *_figures(pictures), "</div>"])


def _titled(table: Table) -> str:
    return f"<h3>{_text(table.title)}</h3>\n{_folded(table, 'lines')}"


def _folded(table: Table, lines: str) -> str:
    """A table, closed where it is long."""
    shown, count = _table(table), len(table.rows)
    return f"<details><summary>{count} {lines}</summary>{shown}</details>" if count > FEW else shown


def _table(table: Table) -> str:
    head = "".join(f"<th scope=col>{_text(heading)}</th>" for heading in table.headings)
    lines = []
    for row in table.rows:
        cells = (
            f"<td class=best>{_text(cell)}</td>" if place in row.best else f"<td>{_text(cell)}</td>"
            for place, cell in enumerate(row.cells)
        )
        lines.append(f"<tr><th scope=row>{_text(row.name)}</th>{''.join(cells)}</tr>")
    body = "\n".join(lines)
    note = f"<caption>{_text(table.note)}</caption>\n" if table.note else ""
    return f"<div class=wide><table>\n{note}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"


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


def _text(text: str) -> str:
    return escape(redact(text))
