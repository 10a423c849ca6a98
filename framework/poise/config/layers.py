"""What each place gives, by path, as it stands there: the command line, Python, a file, a preset."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from poise.config.schema import NAMED
from poise.errors import UserError
from poise.secrets import redact

Mistake = Callable[[str], None]


@dataclass(frozen=True)
class Layer:
    """What one place gives.

    Args:
        kind: in files and presets `${path}` stands for a value; elsewhere it stands for itself.
        source: where it is, for messages; "" is the command line or Python.
        values: by path.
        origin: where it is, for who asks what a value comes from.
        origins: of single values, where they have another one.
    """

    kind: Literal["given", "file", "preset"]
    source: str
    values: Mapping[str, Any]
    origin: str
    origins: Mapping[str, str] = field(default_factory=dict)


def from_arguments(arguments: Sequence[str], mistake: Mistake) -> Layer:
    """What `path=value` arguments give."""
    values: dict[str, Any] = {}
    for argument in arguments:
        path, equals, text = argument.partition("=")
        if not equals or not path:
            mistake(f"{shown(argument)!r} is not of the form path=value, such as trainer.max_epochs=10.")
        else:
            put(values, path, text, mistake)
    return Layer("given", "", values, "command line")


def from_values(tree: Mapping[Any, Any], mistake: Mistake) -> Layer:
    """What nested values of Python give."""
    return Layer("given", "", flatten(tree, mistake), "Python")


def from_file(
    tree: Mapping[Any, Any], source: str, mistake: Mistake, kind: Literal["file", "preset"] = "file"
) -> Layer:
    """What a file or a preset gives, read as nested strings."""
    return Layer(kind, source, flatten(tree, mistake, source), source or "the YAML text")


def flatten(tree: Mapping[Any, Any], mistake: Mistake, source: str = "") -> dict[str, Any]:
    """A nested mapping as values by path; keys may themselves be paths."""
    values: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        node = _plain(node)
        if isinstance(node, Mapping) and node:
            for key, child in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), child)
        else:
            put(values, prefix, node, mistake, source)

    for key, child in _plain(tree).items():
        walk(str(key), child)
    return values


def put(values: dict[str, Any], path: str, value: Any, mistake: Mistake, source: str = "") -> None:
    """Add a value; `recipe=a` is short for `recipe.name=a`, and a path given twice is a mistake."""
    full = f"{path}.name" if path in NAMED and value != {} else path
    if full in values:
        where = f" in {source}" if source else ""
        mistake(f"{shown(path)} is given twice{where}: {shown(values[full])} and {shown(value)}.")
    values[full] = value


def typed(path: str) -> str:
    """A path as a user types it: `threat` for threat.name."""
    group, _, last = path.rpartition(".")
    return group if last == "name" and group in NAMED else path


def items(value: Any) -> list[str]:
    """The names in a list of names, or in text split at commas."""
    if isinstance(value, str):
        value = value.split(",")
    return [str(item).strip() for item in value] if isinstance(value, list | tuple) else []


def by_alias(value: Any) -> dict[str, str]:
    """The names in a list of names, by alias."""
    split = [item.partition("@") for item in items(value)]
    return {alias or name.rpartition(":")[2]: name for name, _, alias in split}


def shown(value: Any) -> str:
    """A value for a message: short, and as a user writes it."""
    text = redact(value if isinstance(value, str) else "none" if value is None else repr(value))
    return text if len(text) <= 60 else f"{text[:57]}…"


def _plain(value: Any) -> Any:
    """OmegaConf's containers as plain ones, resolved by OmegaConf itself; anything else as it is."""
    if not type(value).__module__.startswith("omegaconf."):
        return value
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"OmegaConf cannot resolve the config it was given: {' '.join(str(error).split())}") from error
