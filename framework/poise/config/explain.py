"""A whole config as a user can read it: each value, and where it comes from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poise.config.compose import CHECKS, Check, explained
from poise.config.files import scalar, to_mapping
from poise.config.references import escaped
from poise.config.schema import Config

WIDEST = 60  # of what stands before a comment; where more does, its comment follows it
LONG = 120  # of a key: a longer one is no simple key to YAML


def explain(given: Sequence[str] | Mapping[str, Any], checks: Sequence[Check] = CHECKS) -> str:
    """The whole config that `path=value` arguments or nested values describe, as YAML that `config=` takes back.

    Each value stands on a line of its own, with where it comes from: `default`, `preset trades_cifar10`, the path of
    a file, `command line`, `brought by trades`.

    Args:
        given: arguments as of `parse`, or values as of `compose`.
        checks: further looks at the whole config.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    config, origins = explained(given, checks)
    origins["recipe.name"] = ", ".join([origins.get("recipe.name", "default"), *_guests(config)])
    lines = list(_lines(escaped(to_mapping(config)), origins))
    width = max(len(text) for text, _ in lines if len(text) <= WIDEST)
    return "\n".join(f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines)


def _guests(config: Config) -> Iterator[str]:
    return (f"{alias} brought by {entry.brought_by}" for alias, entry in config.recipe.items() if entry.brought_by)


def _lines(
    tree: Mapping[str, Any], origins: Mapping[str, str], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Each line, and where its value comes from: "" where it has none, as the head of a group."""
    indent = "  " * len(above)
    for key, value in tree.items():
        path = (*above, key)
        named = scalar(key)
        head = f"{indent}{named}:" if len(named) <= LONG else f"{indent}? {named}\n{indent}:"
        if not isinstance(value, Mapping):
            yield f"{head} {scalar(value)}", " ".join(origins.get(".".join(path), "default").split())
        elif value:
            yield head, ""
            yield from _lines(value, origins, path)
        else:
            yield f"{head} {{}}", ""
