"""What `poise list` shows: tables of what has a name."""

import sys
from collections.abc import Iterator, Mapping, Sequence

from poise.config import presets
from poise.details import in_full, preset_in_full
from poise.errors import UserError, nearest
from poise.registry import KINDS, Kind, Record, WrongKindError, named, records, resolve
from poise.written import assignment

PRESETS = ("preset", "presets")
ENDLESS = 10**5  # columns of a line that nobody wraps


def show(words: Sequence[str]) -> str:
    """Tables of everything, a table of one kind, or one thing in full.

    Args:
        words: nothing, a kind, a name, or a user's own package.module:Class.

    Raises:
        UserError: there is no such kind or name, or more than one word.
    """
    if len(words) > 1:
        raise UserError(f"poise list takes one kind or name, not {' '.join(words)!r}.")
    if not words:
        return "\n\n".join(_everything())
    word = words[0]
    for kind in KINDS.values():
        if word in (kind.plural, kind.name):
            return _table(kind) if records(kind.name) else f"There are no {kind.plural} yet."
    if word in PRESETS:
        return _preset_table()
    return "\n\n".join(_found(word))


def names() -> list[str]:
    """Every word that `poise list` knows."""
    return [*plurals(), PRESETS[1], *(name for kind in KINDS for name in records(kind)), *presets.names()]


def plurals() -> list[str]:
    """The kinds of which there is something, as in `poise list recipes`."""
    return [kind.plural for kind in KINDS.values() if records(kind.name)]


def _everything() -> Iterator[str]:
    yield from (_table(kind) for kind in KINDS.values() if records(kind.name))
    yield _preset_table()


def _found(word: str) -> list[str]:
    """All that is called so, in full: a name may be of two kinds."""
    if ":" in word:
        return [in_full(_own(word))]
    found = [in_full(record) for record in filter(None, (named(kind, word) for kind in KINDS))]
    if word in presets.names():
        found.append(preset_in_full(word))
    if not found:
        raise UserError(f"There is no kind or name {word!r}.{nearest(word, names())} `poise list` shows all.")
    return found


def _own(word: str) -> Record:
    """The record of a user's own class or function, whichever kind it is of: functions tell by what they are given."""
    refusal: UserError | None = None
    for kind in sorted(KINDS.values(), key=lambda kind: not kind.function):
        try:
            record = resolve(kind.name, word)
        except WrongKindError as error:
            refusal = refusal or error
            continue
        if not kind.supplied or record.supplied:
            return record
    raise refusal or UserError(f"{word} is nothing that poise knows a use for.")


def _table(kind: Kind) -> str:
    """A line for each thing; where lines wrap, a paragraph beside its name: columns would be too narrow to read."""
    found = list(records(kind.name).values())
    columns = {
        "what it is": [r.doc.partition("\n")[0] for r in found],
        "hooks": [", ".join(r.hooks) for r in found],
        "paper": [_cited(r) for r in found],
        "parameters": [", ".join(map(assignment, r.parameters)) for r in found],
    }
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    if sys.stdout.isatty():
        paragraphs = ["\n".join(filter(None, lines)) for lines in zip(*shown.values(), strict=True)]
        shown = {", ".join(shown): paragraphs}
    return rendered({kind.plural: [record.name for record in found], **shown})


def _preset_table() -> str:
    found = list(presets.names())
    return rendered({PRESETS[1]: found, "what it is": [presets.about(name) for name in found]})


def _cited(record: Record) -> str:
    """Authors, year and arXiv id of a paper; its title stands where the thing is shown in full."""
    parts = record.paper.split(", ")
    return ", ".join([parts[0], *parts[-2:]]) if len(parts) > 3 else record.paper


def rendered(columns: Mapping[str, Sequence[str]]) -> str:
    """Columns wrapped to the terminal's width; one line for each thing where a program reads."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else ENDLESS, highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, (title, cells) in enumerate(columns.items()):
        longest = max((len(word) for cell in cells for word in cell.split()), default=0)
        table.add_column(title, no_wrap=not place, style="" if place else "cyan", min_width=longest, overflow="fold")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*map(Text, cells))
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())
