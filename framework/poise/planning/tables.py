"""Numbers, tables and prose of a plan, as wide as the terminal."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence

from poise.progress import lasting

WIDEST = 120  # columns, and those of what is no terminal
IN_MILLISECONDS = 10.0  # seconds from which a duration is told as people say it
UNITS = ("", "k", "M", "G", "T", "P", "E")


def width() -> int:
    """Columns that a line may take."""
    return min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as what is in them, the first to the left, the others to the right; empty ones are left out."""
    columns = [column for column in zip(headings, *rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for first, *others in zip(*columns, strict=True):
        cells = [cell.rjust(wide) for cell, wide in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def prose(text: str) -> Iterator[str]:
    """A sentence or more, indented, in as many lines as it takes."""
    yield from textwrap.wrap(
        text, width(), initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def share(value: float) -> str:
    """In percent."""
    return f"{100 * value:.0f} %"


def number(value: float) -> str:
    """With two digits after the point, as those above and below it."""
    return f"{value:,.2f}" if value else "0"


def amount(value: float) -> str:
    """Three digits that count, such as `1.23 G`, for a unit to follow."""
    place = 0
    while value >= 999.5 and place < len(UNITS) - 1:
        value, place = value / 1000, place + 1
    return f"{value:.3g} {UNITS[place]}"


def duration(seconds: float) -> str:
    """In milliseconds with one digit after the point, and from ten seconds on such as `3 min 20 s`."""
    if seconds >= IN_MILLISECONDS:
        return lasting(seconds)
    return f"{1000 * seconds:,.1f} ms" if seconds else "0"
