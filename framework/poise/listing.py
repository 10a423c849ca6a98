"""What `poise list` shows."""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from poise.errors import UserError, nearest
from poise.registry import KINDS, REQUIRED, Kind, Parameter, Record, records

WIDE = 160


def show(words: Sequence[str]) -> str:
    """A table of everything of a kind, of all kinds, or one thing in full.

    Args:
        words: nothing, a kind, or a name.

    Raises:
        UserError: there is no such kind or name, or more than one word.
    """
    if len(words) > 1:
        raise UserError(f"poise list takes one kind or name, not {' '.join(words)!r}.")
    if not words:
        return "\n\n".join(_titled(kind) for kind in KINDS.values() if records(kind.name))
    word = words[0]
    for kind in KINDS.values():
        if word in (kind.plural, kind.name):
            return _table(kind)
    found = [records(kind)[word] for kind in KINDS if word in records(kind)]
    if not found:
        known = [kind.plural for kind in KINDS.values()] + [name for kind in KINDS for name in records(kind)]
        raise UserError(f"There is no kind or name {word!r}.{nearest(word, known)} `poise list` shows all.")
    return "\n\n".join(map(_in_full, found))


def _titled(kind: Kind) -> str:
    return f"{kind.plural}\n{textwrap.indent(_table(kind), '  ')}"


def _table(kind: Kind) -> str:
    found = list(records(kind.name).values())
    if not found:
        return f"no {kind.plural} yet"
    about = "paper" if any(record.paper for record in found) else "what it is"
    rows = [(r.name, ", ".join(map(_assignment, r.parameters)), r.paper or _first_line(r)) for r in found]
    return _rendered(("name", "parameters", about), rows)


def _first_line(record: Record) -> str:
    return record.doc.partition("\n")[0]


def _assignment(parameter: Parameter) -> str:
    return f"{parameter.name}{'' if parameter.default is REQUIRED else '=' + _shown(parameter.default)}"


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_shown, value))
    return {None: "none", True: "true", False: "false"}.get(value, str(value)) if _is_word(value) else str(value)


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _rendered(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns that wrap to the terminal's width; a fixed, wide one where the output is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDE, color_system=None)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in header:
        table.add_column(title, no_wrap=title == "name")
    for row in rows:
        table.add_row(*map(Text, row))
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines())


def _in_full(record: Record) -> str:
    return "\n".join(_sections(record))


def _sections(record: Record) -> Iterator[str]:
    yield f"{record.name}: {record.kind}, {record.qualified}"
    if record.paper:
        yield record.paper
    yield f"\n{record.doc}\n"
    for parameter in record.parameters:
        yield f"{_address(record)}{_assignment(parameter)}"
    if record.hooks:
        yield f"hooks: {', '.join(record.hooks)}"
    for name in ("provides", "needs", "after", "conflicts"):
        if capabilities := record.attributes.get(name):
            yield f"{name}: {', '.join(sorted(capabilities))}"
    if record.brings:
        yield f"brings: {', '.join(record.brings)}"


def _address(record: Record) -> str:
    group = {"calibrator": "calibration", "evaluator": "evaluation", "wrapper": "data"}.get(record.kind, record.kind)
    named = record.kind in ("recipe", "calibrator", "evaluator", "wrapper")
    return f"{group}.{record.name}." if named else f"{group}."
