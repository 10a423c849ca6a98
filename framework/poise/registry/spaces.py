"""What may follow a slash in a name: `timm/resnet18` is a function that the package `timm` registers.

A namespace is called like its package, which is read as text: to import it takes seconds.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from poise.registry.source import find_spec

_NAME = re.compile(r"\w+(\.\w+)?", re.ASCII)
_REGISTERED = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


@cache
def names_in(space: str) -> tuple[str, ...]:
    """The names that a package registers, in alphabetical order; none where it is not installed."""
    return tuple(sorted({name for text in _texts(space) for name in _REGISTERED.findall(text)}))


def surely_lacks(space: str, name: str) -> bool:
    """Whether a name, which may end in a dot and a variant, occurs nowhere in its package."""
    known, word = names_in(space), name.partition(".")[0]
    if word in known or not known:
        return False
    if not _NAME.fullmatch(name):
        return True
    whole = re.compile(rf"\b{re.escape(word)}\b")
    return not any(word in text and whole.search(text) for text in _texts(space))


def _texts(space: str) -> Iterator[str]:
    spec = find_spec(f"{space}.models")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*.py")):
            yield path.read_text(encoding="utf-8", errors="replace")
