"""What a Python user gives to `fit`: names, mappings or objects, brought into one config."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from poise import registry
from poise.calibrator import Calibrator
from poise.config import CHECKS_OF_A_START, Config, DataConfig, Entry, check_places, check_stack, compose, written
from poise.config.schema import OBJECT
from poise.data.dataset import Splits
from poise.data.source import DataSource
from poise.errors import UserError
from poise.recipe import Recipe


@dataclass(frozen=True)
class Objects:
    """What was given as an object; a config names such things `object:<Class>`.

    Args:
        recipes: by alias.
        model: inputs to logits.
        data: the splits.
        unwritable: why ranks of their own could not be started on it; "" where they could.
    """

    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    model: nn.Module | None = None
    data: Splits | None = None
    unwritable: str = ""


def config_of(recipe: Any, data: Any, model: Any, groups: Mapping[str, Any]) -> tuple[Config, Objects]:
    """The config of a call of `fit`, and the objects that stand in it.

    Raises:
        UserError: a config that cannot be run, with all that is wrong with it.
    """
    recipe = [recipe] if isinstance(recipe, Recipe | Calibrator) else recipe
    _check_kinds(recipe, data, model)
    members, loose = _members(recipe)
    settings = dict(groups) | _calibration(members, groups)
    for group, value in (("data", data), ("model", model)):
        if isinstance(value, str | Mapping):
            settings[group] = value
        elif isinstance(value, DataSource):
            name, params = written(value)
            settings[group] = {"name": name, **params}
    named = {alias: item for alias, item in members.items() if alias not in loose and not _calibrates(item)}
    # what only a config without objects can be asked, the run asks again once they are in
    blind = {check_stack} if loose else set()
    blind |= {check_places} if loose or isinstance(model, nn.Module) or isinstance(data, Splits) else set()
    checks = [check for check in CHECKS_OF_A_START if check not in blind]
    config = compose({**settings, "recipe": _group(named) | _others(recipe, members)}, checks)
    why = "; ".join(loose.values())
    if loose:
        config = replace(config, recipe=_in_order(config.recipe, members, loose))
    if isinstance(model, nn.Module):
        config = replace(config, model=replace(config.model, name=f"{OBJECT}:{type(model).__name__}", params={}))
        why = why or "the model was given as an object: write model='package.module:make'"
    if isinstance(data, Splits):
        config = replace(config, data=DataConfig(f"{OBJECT}:Splits"))
        why = why or "the data were given as splits: write a DataSource and data='package.module:Class'"
    recipes = {alias: item for alias, item in members.items() if isinstance(item, Recipe)}
    return config, Objects(
        recipes,
        model if isinstance(model, nn.Module) else None,
        data if isinstance(data, Splits) else None,
        why,
    )


def _check_kinds(recipe: Any, data: Any, model: Any) -> None:
    """Refuse what is none of the kinds of things that can be given."""
    forms = {
        "data": (
            data,
            (str, Mapping, DataSource, Splits, type(None)),
            "a name, a mapping, a DataSource object or Splits",
        ),
        "model": (model, (str, Mapping, nn.Module, type(None)), "a name, a mapping or a module"),
        "recipe": (recipe, (str, Mapping, Sequence), "names, a list of names and recipe objects, or a mapping"),
    }
    for name, (value, kinds, allowed) in forms.items():
        if not isinstance(value, kinds):
            raise UserError(f"fit({name}=…) was given {_described(value)}: give {allowed}.")
    items = recipe if isinstance(recipe, Sequence) and not isinstance(recipe, str) else ()
    for item in items:
        if not isinstance(item, str | Recipe | Calibrator):
            raise UserError(f"fit(recipe=[…]) holds {_described(item)}: give names and recipe objects.")


def _described(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"


def _members(recipe: str | Sequence[Any] | Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Members by alias, and why those that cannot be written down cannot."""
    if isinstance(recipe, str):
        recipe = [name.strip() for name in recipe.split(",")]
    if isinstance(recipe, Mapping):
        names = recipe.get("name", list(recipe))
        names = names.split(",") if isinstance(names, str) else names
        given = {_alias(name): recipe.get(_alias(name), {}) for name in names}
        members = {
            alias: value if isinstance(value, Recipe | Calibrator) else {"name": name, **value}
            for name, (alias, value) in zip(names, given.items(), strict=True)
        }
    else:
        members = {}
        for item in recipe:
            alias = _alias(item) if isinstance(item, str) else registry.name_of(item)
            if alias in members:
                raise UserError(f"two recipes are called {alias}: give a mapping {{'{alias}': …, 'second': …}}")
            members[alias] = {"name": item} if isinstance(item, str) else item
    return members, {alias: why for alias, item in members.items() if (why := _unwritable(item))}


def _unwritable(item: Any) -> str:
    if isinstance(item, Mapping):
        return ""
    try:
        name, _ = written(item)
        record = registry.find("calibrator" if _calibrates(item) else "recipe", name)
    except UserError as error:
        return str(error)
    unread = [parameter.name for parameter in record.parameters if parameter.type is None]
    return f"{name} gives its parameter {unread[0]!r} no type that text can be read by" if unread else ""


def _group(members: Mapping[str, Any]) -> dict[str, Any]:
    """Members as the `recipe` group of a config."""
    group: dict[str, Any] = {"name": []}
    for alias, item in members.items():
        if isinstance(item, Mapping):
            name, params = item["name"], {k: v for k, v in item.items() if k != "name"}
        else:
            name, params = written(item)
        group["name"].append(name if "@" in name or _alias(name) == alias else f"{name}@{alias}")
        if params:
            group[alias] = params
    return group if group["name"] else {"name": ["plain"]}


def _calibration(members: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, Any]:
    objects = {alias: item for alias, item in members.items() if _calibrates(item)}
    if not objects:
        return {}
    if "calibration" in groups:
        raise UserError("calibrators are given both in recipe= and in calibration=: give them in one place")
    return {"calibration": _group(objects)}


def _others(recipe: Any, members: Mapping[str, Any]) -> dict[str, Any]:
    """What a mapping says of recipes that it does not name: those that a preset or a member brings."""
    if not isinstance(recipe, Mapping) or "name" not in recipe:
        return {}
    return {alias: params for alias, params in recipe.items() if alias not in {*members, "name"}}


def _in_order(entries: Mapping[str, Entry], members: Mapping[str, Any], loose: Mapping[str, str]) -> dict[str, Entry]:
    """The entries of a composed config with those of unwritable objects in their places.

    What a member brings and what stands in the place of a preset follows it.
    """
    ordered: dict[str, Entry] = {}
    waiting = dict(entries)
    for alias, item in members.items():
        if alias in loose:
            ordered[alias] = Entry(f"{OBJECT}:{type(item).__name__}")
            continue
        ordered |= {alias: waiting.pop(alias)} if alias in waiting else {}
        while waiting and next(iter(waiting)) not in members:
            name = next(iter(waiting))
            ordered[name] = waiting.pop(name)
    return ordered | waiting


def _calibrates(item: Any) -> bool:
    return isinstance(item, Calibrator)


def _alias(item: str) -> str:
    name, _, alias = item.partition("@")
    return alias or name.rpartition(":")[2]
