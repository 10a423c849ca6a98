"""The one exception that means: what the user gave is wrong."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave.

    The message says what was given, what is allowed and where to change it. The command line prints it
    without a traceback and ends with exit code 2.
    """


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of an error message: `" Did you mean 'trades'?"`, or `""` where no word is close."""
    spelled = {candidate.lower(): candidate for candidate in words}
    match = difflib.get_close_matches(word.lower(), spelled, n=1)
    return f" Did you mean {spelled[match[0]]!r}?" if match else ""


def nearest_path(path: str, paths: Iterable[str]) -> str:
    """As `nearest`, of paths whose last parts are close: trainer.foo is not taken for trainer.block."""
    return nearest(path, [other for other in paths if nearest(_last(path), [_last(other)])])


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def one(noun: str) -> str:
    """A noun as one of many: `a recipe`, `an int`; `data` is data."""
    return noun if noun == "data" else f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
