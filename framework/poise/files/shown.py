"""What stands in files of others, as a message of one line shows it."""

from collections.abc import Iterable
from itertools import islice

LONGEST = 40  # characters of a name or a cell
MOST = 8  # names of a list


def quoted(text: str) -> str:
    """A name or a cell, in quotes, cut where it is long."""
    return repr(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def listed(names: Iterable[str]) -> str:
    """Names, the first few of them; `nothing` where there is none."""
    rest = iter(names)
    found = [quoted(name)[1:-1] for name in islice(rest, MOST)]
    return ", ".join([*found, *("…" for _ in islice(rest, 1))]) or "nothing"
