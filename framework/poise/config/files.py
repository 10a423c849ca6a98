"""config.yaml: written from a Config, read as strings."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from poise.config.draft import Draft
from poise.config.references import escaped
from poise.config.schema import GROUPS, LISTS, SCALARS, SINGLE, Config, Entry
from poise.errors import nearest


def to_mapping(config: Config) -> dict[str, Any]:
    """A config as nested plain values, as `compose` takes them."""
    lists: dict[str, Any] = {
        "recipe": _list(config.recipe) or {"name": "plain"},
        "calibration": _list(config.calibration) or {"name": "none"},
        "data": _data(config),
        "augment": _list(config.augment) or {"name": "none"},
        "evaluation": _list(config.evaluation) or {"name": "none"},
    }
    return {
        **{group: lists[group] for group in LISTS},
        **{group: _single(getattr(config, group)) for group in SINGLE},
        **{group: _fields(getattr(config, group)) for group in GROUPS},
        "tables": dict(config.tables),
        **{name: getattr(config, name) for name in SCALARS},
    }


def to_yaml(config: Config, *without: str) -> str:
    """A config as YAML text that `from_yaml` turns back into the same config, but for groups that are left out."""
    import yaml

    kept = {group: value for group, value in to_mapping(config).items() if group not in without}
    return yaml.dump(escaped(kept), Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=10**9)


def scalar(value: Any) -> str:
    """A value or a list as YAML on one line, without a line break."""
    import yaml

    text: str = yaml.dump([value], Dumper=_dumper(), default_flow_style=True, allow_unicode=True, width=10**9)
    return text.strip()[1:-1]


def read_file(path: str, draft: Draft) -> dict[str, Any]:
    """What a YAML file says; an empty mapping and a mistake where it cannot be read."""
    if not path:
        draft.mistake("config= is empty: give a file, or leave it out.")
        return {}
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [other.name for other in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
        draft.mistake(f"config={path}: there is no such file.{nearest(file.name, beside)}")
    except (OSError, ValueError) as error:
        draft.mistake(f"config={path} cannot be read: {error}.")
    else:
        return read_text(text, path, draft)
    return {}


def read_text(text: str, source: str, draft: Draft) -> dict[str, Any]:
    """What a YAML text says, every value a string; keys given twice and other forms are mistakes."""
    import yaml

    try:
        tree = yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        draft.mistake(f"{source}:{line} {getattr(error, 'problem', None) or error}.")
        return {}
    except RecursionError:
        draft.mistake(f"{source}: this is nested too deeply for a config.")
        return {}
    if tree in (None, ""):
        return {}
    if not isinstance(tree, dict):
        draft.mistake(f"{source} is not a mapping of groups, such as `trainer: {{max_epochs: 10}}`.")
        return {}
    return tree


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.BaseLoader):
        """Strings, lists and dicts; a key given twice is refused."""

    def mapping(loader: Any, node: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node)
            if not isinstance(key, str) or key in found:
                problem = f"{key!r} is given twice" if isinstance(key, str) else "a key is not a word"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key_node.start_mark)
            found[key] = loader.construct_object(value_node, deep=True)
        return found

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    return Loader


@cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Floats as Python writes them, None as `none`."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    tag = "tag:yaml.org,2002:"
    Dumper.add_representer(float, lambda dumper, number: dumper.represent_scalar(f"{tag}float", repr(number)))
    Dumper.add_representer(str, lambda dumper, text: dumper.represent_scalar(f"{tag}str", text, _quotes(text)))
    Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(f"{tag}str", "none"))
    return Dumper


def _quotes(text: str) -> str | None:
    """Double ones where a character would not survive otherwise, such as a line break of Unicode's."""
    return None if text.isprintable() else '"'


def _list(entries: Mapping[str, Entry]) -> dict[str, Any]:
    if not entries:
        return {}
    names = [item(alias, entry) for alias, entry in entries.items()]
    return {"name": names} | {alias: dict(entry.params) for alias, entry in entries.items() if entry.params}


def item(alias: str, entry: Entry) -> str:
    """A member as `recipe=` names it: `name`, or `name@alias`."""
    return entry.name if alias == entry.name.rpartition(":")[2] else f"{entry.name}@{alias}"


def _data(config: Config) -> dict[str, Any]:
    wrappers = _list(config.data.wrappers)
    names = [config.data.name, *wrappers.pop("name", [])]
    return {"name": names, **config.data.params, **wrappers}


def _single(entry: Entry) -> dict[str, Any]:
    common = [item.name for item in fields(Entry)]
    own = {item.name: getattr(entry, item.name) for item in fields(entry) if item.name not in common}
    return {"name": entry.name, **own, **entry.params}


def _fields(group: Any) -> dict[str, Any]:
    return {item.name: getattr(group, item.name) for item in fields(group)}
