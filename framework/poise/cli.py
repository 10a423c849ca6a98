"""The command `poise`."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from poise import __version__
from poise.errors import UserError, nearest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those after `poise`; None takes the process's own.

    Returns:
        The exit code: 0 done, 1 a failed run, 2 a mistake in what was given, 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        return _run([word for word in words if word != "--debug"])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: nothing is to be said
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        text, code = _explained(error)
        print(text, file=sys.stderr)
        return code


def _explained(error: BaseException) -> tuple[str, int]:
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "Interrupted.", 130
    text = " ".join(str(error).split())
    return f"The run failed: {type(error).__name__}: {text} (--debug shows where.)", 1


def _run(words: list[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in ("-h", "--help", "help"):
        return _help("poise")
    if command == "--version":
        return _say(f"poise {__version__}")
    if command not in COMMANDS:
        raise UserError(f"There is no command {command!r}: {', '.join(COMMANDS)}.{nearest(command, COMMANDS)}")
    return _help(command) if {"-h", "--help"} & set(rest) else COMMANDS[command](rest)


def _help(topic: str) -> int:
    return _say((Path(__file__).parent / "help" / f"{topic}.txt").read_text(encoding="utf-8").rstrip())


def _say(text: str) -> int:
    print(text)
    return 0


def _train(arguments: list[str]) -> int:
    from poise.config import parse

    config = parse(arguments)
    from poise import train

    return train.main(config)


def _list(words: list[str]) -> int:
    from poise.listing import show

    return _say(show(words))


COMMANDS: dict[str, Callable[[list[str]], int]] = {"train": _train, "list": _list}
