"""Every path that a config knows, with what may stand after its equals sign."""

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from poise import registry
from poise.config import Config, Entry, parse, presets
from poise.config.draft import Draft
from poise.config.errors import ConfigErrors
from poise.config.schema import ENTRIES, GROUPS, SCALARS, SINGLE
from poise.config.values import is_list, words
from poise.errors import UserError
from poise.registry import Parameter, Record

KIND_OF = {"calibration": "calibrator", "evaluation": "evaluator", "augment": "augmentation"}
FOLDERS = "/"  # no file's ending, so directories alone


@dataclass(frozen=True)
class Setting:
    """What a path takes.

    Args:
        choices: words, as far as there is a list of them.
        further: those that may follow after a comma.
        files: endings of files it may name; empty where it names none.
    """

    choices: Sequence[str] = ()
    further: Sequence[str] = ()
    files: Sequence[str] = ()


def settings_of(arguments: Sequence[str]) -> dict[str, Setting]:
    """All that can be set, by path, once these arguments stand on the line. Mistakes in them are passed over."""
    found = dict(_named())
    found |= {name: _by_type(hint) for name, hint in typing.get_type_hints(Config).items() if name in SCALARS}
    for group, cls in GROUPS.items():
        hints = typing.get_type_hints(cls)
        for item in fields(cls):
            found[group if item.name == "name" else f"{group}.{item.name}"] = _by_type(hints[item.name])
    found["config"] = Setting(files=(".yaml", ".yml"))
    found["run_dir"] = Setting(files=(FOLDERS,))
    for group, cls in ENTRIES.items():
        hints = typing.get_type_hints(cls)
        found |= {f"{group}.{name}": _by_type(hints[name]) for name in registry.KINDS[group].reserved}
    found["model.checkpoint"] = Setting(files=("",))
    found["deepspeed"] = Setting(files=(".json",))
    config = _understood(arguments)
    return found | dict(_parameters(config)) if config else found


def _understood(arguments: Sequence[str]) -> Config | None:
    """The config of a line that is not finished; None where too little of it can be read."""
    seen: list[Config] = []

    def keep(config: Config, draft: Draft) -> None:
        seen.append(config)

    try:
        parse([argument for argument in arguments if "=" in argument], checks=[keep])
    except ConfigErrors:
        pass
    except UserError:
        return None
    return seen[0] if seen else None


def _named() -> Iterator[tuple[str, Setting]]:
    stack = [*registry.records("recipe"), *registry.records("calibrator"), *presets.names()]
    yield "recipe", Setting([*stack, "plain"], stack)
    for group in KIND_OF:
        names = list(registry.records(KIND_OF[group]))
        yield group, Setting([*names, "none"], names)
    yield "data", Setting(list(registry.records("data")), list(registry.records("wrapper")))
    for group in SINGLE:
        yield group, Setting([f"{name}{'/' * bool(record.space)}" for name, record in registry.records(group).items()])


def _parameters(config: Config) -> Iterator[tuple[str, Setting]]:
    for group in ("recipe", *KIND_OF):
        yield from of_members(group, KIND_OF.get(group, group), getattr(config, group))
    yield from of_members("data", "wrapper", config.data.wrappers)
    yield from _of("data", "data", config.data)
    for group in SINGLE:
        yield from _of(group, group, getattr(config, group))


def of_members(group: str, kind: str, members: Mapping[str, Entry]) -> Iterator[tuple[str, Setting]]:
    """The parameters of members by path."""
    for alias, entry in members.items():
        yield from _of(f"{group}.{alias}", kind, entry)


def _of(prefix: str, kind: str, entry: Entry) -> Iterator[tuple[str, Setting]]:
    record = _record(kind, entry.name)
    if record is not None:
        for parameter in record.parameters:
            yield f"{prefix}.{parameter.name}", _of_parameter(record, parameter)


def _of_parameter(record: Record, parameter: Parameter) -> Setting:
    if parameter.name in (record.attributes.get("files") or ()):
        return Setting(files=("",))
    kind = record.attributes.get("named", {}).get(parameter.name)
    if kind is not None:
        return Setting(names := list(registry.records(kind)), names)
    return _by_type(parameter.type)


def _record(kind: str, name: str) -> Record | None:
    try:
        return registry.find(kind, name)
    except UserError:
        return None


def _by_type(hint: Any) -> Setting:
    """A lone `none` is left out: it would stand as if it were all that a number may be."""
    found = list(words(hint))
    return Setting(found if found != ["none"] else [], found if is_list(hint) else ())
