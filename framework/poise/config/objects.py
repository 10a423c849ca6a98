"""From Python objects back to config, so that a run of objects can be written down and started again."""

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from poise import registry
from poise.errors import UserError
from poise.registry.imported import import_object


def write_down(recipe: Iterable[Any] | str) -> dict[str, Any]:
    """Recipes and calibrators, objects or names, as the `recipe` group of a config.

    Args:
        recipe: instances, names as in `recipe=`, or both, in order; two of one class get aliases.

    Returns:
        `{"recipe": {"name": […], alias: {parameter: value}}, "calibration": {…}}`, as `compose` takes it; no
        `calibration` where no calibrator is among the objects.

    Raises:
        UserError: an object that other processes cannot import, or with arguments that cannot be written.
    """
    groups: dict[str, dict[str, Any]] = {"recipe": {"name": []}, "calibration": {"name": []}}
    for thing in recipe.split(",") if isinstance(recipe, str) else recipe:
        if isinstance(thing, str):
            groups["recipe"]["name"].append(thing)
            continue
        group = groups[_group(thing)]
        name, params = written(thing)
        item, alias = _with_alias(name, [a for g in groups.values() for a in map(_alias, g["name"])])
        group["name"].append(item)
        if params:
            group[alias] = params
    return {name: group for name, group in groups.items() if group["name"] or name == "recipe"}


def written(thing: Any) -> tuple[str, dict[str, Any]]:
    """The name, or "package.module:Class", and the parameters of an object.

    Raises:
        UserError: its class cannot be imported by other processes, or its arguments cannot be written down.
    """
    cls = type(thing)
    _check_importable(cls)
    params = registry.parameters_of(thing)
    for key, value in params.items():
        if not _plain(value):
            raise UserError(
                f"{cls.__name__}.{key} is a {type(value).__name__}, which cannot be written into a config: "
                "give numbers, strings, booleans, None or lists of those."
            )
    return _name(cls), params


def _check_importable(cls: type) -> None:
    qualified = f"{cls.__module__}:{cls.__qualname__}"
    way_out = f"put it in a module, at top level, and name it module:{cls.__name__}."
    if cls.__module__ == "__main__":
        raise UserError(f"{cls.__name__} is defined in a notebook or script, out of other processes' reach: {way_out}")
    if "." in cls.__qualname__ or import_object(qualified) is not cls:
        raise UserError(f"{cls.__name__} cannot be imported from {cls.__module__} under its name: {way_out}")


def _name(cls: type) -> str:
    qualified = f"{cls.__module__}:{cls.__qualname__}"
    name = registry.name_of(cls)
    registered = (registry.records(kind).get(name) for kind in registry.KINDS)
    return name if any(record and record.qualified == qualified for record in registered) else qualified


def _group(thing: Any) -> str:
    for kind, group in (("recipe", "recipe"), ("calibrator", "calibration")):
        if isinstance(thing, import_object(registry.KINDS[kind].root)):
            return group
    hint = f": give {thing.__name__}(…), an object" if isinstance(thing, type) else ""
    raise UserError(f"{getattr(thing, '__name__', type(thing).__name__)} is no recipe and no calibrator{hint}.")


def _alias(item: str) -> str:
    name, _, alias = item.partition("@")
    return alias or name.rpartition(":")[2]


def _with_alias(name: str, taken: list[str]) -> tuple[str, str]:
    """The item for `name=` and its alias: numbered from the second of one name on."""
    first = alias = _alias(name)
    number = 1
    while alias in taken:
        number += 1
        alias = f"{first}_{number}"
    return (name if alias == first else f"{name}@{alias}"), alias


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str | PurePath)
