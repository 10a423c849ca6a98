"""From a line that somebody is typing to the words that may stand at its end.

A candidate is the whole word, so that every shell does the same with it. One that ends in a blank is finished;
after the others more may follow: a name after a comma, a parameter after a dot, a value after an equals sign.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from poise import listing
from poise.cli import APPLY, COMMANDS, OPTIONS, SWEEP
from poise.completion.commands import (
    settings_of_apply,
    settings_of_calibrate,
    settings_of_evaluate,
    settings_of_plan,
    settings_of_predict,
    settings_of_sync,
)
from poise.completion.settings import FOLDERS, Setting, settings_of
from poise.errors import UserError, nearest
from poise.registry.spaces import names_in

SHELLS = ("bash", "zsh", "fish")
TABLES = "tables."


def script(shell: str) -> str:
    """What a shell evaluates to complete `poise`.

    Raises:
        UserError: there is none for that shell.
    """
    if shell not in SHELLS:
        raise UserError(f"There is no completion for {shell!r}: {', '.join(SHELLS)}.{nearest(shell, SHELLS)}")
    return (Path(__file__).parent / f"poise.{shell}").read_text(encoding="utf-8")


def candidates(words: Sequence[str]) -> list[str]:
    """The words that may stand in the last one's place.

    Args:
        words: those after `poise`; the last is not finished and may be empty.
    """
    *before, current = words or [""]
    try:
        return [word for word in _candidates(before, current) if word.startswith(current)]
    except UserError:
        return []


def _candidates(before: Sequence[str], current: str) -> Iterable[str]:
    before = [word for word in before if word != "--debug"]
    command, given = (before[0], before[1:]) if before else ("", [])
    if not command:
        return _finished(["--help", "--version", "--debug"] if current.startswith("-") else [*COMMANDS, "help"])
    if current.startswith("-"):
        return _finished([*OPTIONS.get(command, ()), "--help", "--debug"])
    match command:
        case "train" | "submit":
            taken = () if SWEEP in given else given
            return _settings(settings_of(given), taken, current, open_ended=(TABLES,))
        case "plan":
            return _settings(settings_of_plan(given), given, current, open_ended=(TABLES,))
        case "evaluate":
            return _settings(settings_of_evaluate(given), given, current)
        case "calibrate" if given[:1] == [APPLY]:
            return _settings(settings_of_apply(), given, current)
        case "calibrate":
            further = () if given else _finished([APPLY])
            return [*further, *_settings(settings_of_calibrate(given), given, current)]
        case "predict":
            return _settings(settings_of_predict(), given, current)
        case "sync":
            return _settings(settings_of_sync(), given, current)
        case "ui":
            return [path for path in ("tracking.uri=", "port=") if not any(word.startswith(path) for word in given)]
        case "list" | "completion" | "help" if not given:
            return _finished({"list": listing.names(), "completion": SHELLS, "help": list(COMMANDS)}[command])
    return []


def _finished(words: Iterable[str]) -> list[str]:
    return [word if word.endswith("/") else f"{word} " for word in words]


def _settings(
    known: Mapping[str, Setting], given: Sequence[str], current: str, open_ended: Sequence[str] = ()
) -> Iterable[str]:
    """What may become of a word: paths that are known, files below open-ended ones, and their values."""
    path, equals, value = current.partition("=")
    if not equals:
        taken = {word.partition("=")[0].removesuffix(".name") for word in given}
        return _paths(known.keys() - taken, current, open_ended)
    named = known.get(path.removesuffix(".name"), Setting())
    setting = Setting(files=("",)) if path.startswith(tuple(open_ended)) else named
    return (f"{path}={word}" for word in _values(setting, value))


def _paths(known: Iterable[str], current: str, open_ended: Sequence[str] = ()) -> list[str]:
    """The paths one level on, or to the end where there is only one."""
    found = sorted({_one_level(path, current) for path in known if path.startswith(current)})
    found += [path for path in open_ended if path.startswith(current) and path != current]
    if len(found) == 1 and found[0].endswith(".") and found[0] != current:
        further = _paths(known, found[0])
        return further if len(further) == 1 else found
    return found


def _one_level(path: str, current: str) -> str:
    """`trainer.` of trainer.seed while the first part is typed; `trainer.seed=` from the dot on."""
    head, dot, _ = path.removeprefix(current).partition(".")
    return f"{current}{head}{dot}" if dot else f"{path}="


def _values(setting: Setting, value: str) -> Iterator[str]:
    if setting.files:
        yield from _files(value, setting.files)
        return
    before, comma, _ = value.rpartition(",")
    if setting.further and comma:
        used = {name.partition("@")[0] for name in before.split(",")}
        yield from (f"{before},{name}" for name in setting.further if name not in used)
    else:
        yield from setting.choices if setting.further else _finished(setting.choices)
        for space in (choice for choice in setting.choices if choice.endswith("/") and value.startswith(choice)):
            yield from _finished(f"{space}{name}" for name in names_in(space[:-1]))


def _files(value: str, endings: Sequence[str]) -> Iterator[str]:
    """What a directory holds, below the part of a path that is typed; hidden files where a dot is."""
    typed, slash, name = value.rpartition("/")
    folder = Path(f"{typed}{slash}" or ".").expanduser()
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") and not name.startswith("."):
            continue
        if path.is_dir():
            yield f"{typed}{slash}{path.name}/"
        elif FOLDERS not in endings and path.name.endswith(tuple(endings)):
            yield f"{typed}{slash}{path.name} "
