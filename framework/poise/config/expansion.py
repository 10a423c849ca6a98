"""The presets that a list of recipes names, put in their places."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from poise import registry
from poise.config import presets
from poise.config.draft import Draft
from poise.config.files import read_text
from poise.config.layers import Layer, by_alias, from_file, items, shown
from poise.config.members import Member, look_up, with_brought
from poise.config.schema import NAMED
from poise.config.values import convert
from poise.errors import nearest

NEVER = ("config", "run_dir", "resume")  # of one run, and no setting
_LIST = "recipe.name"


def with_presets(draft: Draft, layers: Sequence[Layer]) -> list[Layer]:
    """The layers, over one layer for each preset named in the list of recipes that counts: the highest.

    In that list a preset's own recipes stand in its place. What a preset sets is checked here as far as nothing
    above it can be meant: its keys for recipes, and that it says which thing's parameters it sets.
    """
    place = next((p for p in reversed(range(len(layers))) if _LIST in layers[p].values), None)
    if place is None:
        return list(layers)
    counting = layers[place]
    where = f" (in {counting.source})" if counting.source else ""
    named = items(counting.values[_LIST])
    known = set(presets.names())
    asked = dict.fromkeys(item.partition("@")[0] for item in named)
    found = {name: _layer(draft, name) for name in asked if name in known}
    if not found:
        return list(layers)
    for item in named:
        _check_item(draft, item, where, known)
    for one, other in combinations(found.values(), 2):
        for mistake in _differences(one, other):
            draft.mistake(mistake)
    draft.written["recipe"] = ",".join(named)
    expanded = [own for item in named for own in _expanded(item, found)]
    counting = replace(
        counting,
        values={**counting.values, _LIST: expanded or ["plain"]},
        origins={_LIST: ", ".join([counting.origin, *(layer.origin for layer in found.values())])},
    )
    below = [replace(layer, values=_without_list(layer)) for layer in found.values()]
    return [*below, *layers[:place], counting, *layers[place + 1 :]]


def _layer(draft: Draft, name: str) -> Layer:
    source = f"preset {name}"
    layer = from_file(read_text(presets.text(name), source, draft), source, draft.mistake, kind="preset")
    for path in NEVER:
        if path in layer.values:
            draft.mistake(f"{path} (in {source}): this is of one run, and nothing for a preset.")
    for path in layer.values:
        group = path.partition(".")[0]
        if group in NAMED and group not in ("recipe", "calibration") and f"{group}.name" not in layer.values:
            draft.mistake(f"{path} (in {source}): say there which {group} this is for, {group}: {{name: …}}.")
    _check_own_recipes(draft, layer)
    return replace(layer, values={path: value for path, value in layer.values.items() if path not in NEVER})


def _check_own_recipes(draft: Draft, layer: Layer) -> None:
    """Parameters for a recipe that is neither in the preset's list nor brought by one of it are a slip of the pen."""
    own = by_alias(layer.values.get(_LIST, []))
    for name in set(own.values()) & set(presets.names()):
        draft.mistake(f"recipe={shown(name)} (in {layer.source}): presets do not nest.")
    unheard = Draft()
    records = {alias: look_up(unheard, "", ["recipe", "calibrator"], name) for alias, name in own.items()}
    members = {alias: Member(r) for alias, r in records.items() if r is None or r.kind == "recipe"}
    calibrators = by_alias(layer.values.get("calibration.name", []))
    known = {
        "recipe": [*members, *with_brought(unheard, members)],
        "calibration": [*own, *calibrators, *registry.records("calibrator")],
    }
    for path in layer.values:
        group, _, rest = path.partition(".")
        alias = rest.partition(".")[0]
        if group in known and rest not in ("", "name") and alias not in known[group]:
            hint = nearest(alias, known[group])
            draft.mistake(
                f"{shown(path)} (in {layer.source}): {shown(alias)!r} is not in its recipes or calibrators.{hint}"
            )


def _check_item(draft: Draft, item: str, where: str, known: set[str]) -> None:
    name, at, _ = item.partition("@")
    if name not in known:
        return
    if at:
        draft.mistake(f"recipe={shown(item)}{where}: a preset has no alias. Write {name}, or its recipes with aliases.")
    for kind in ("recipe", "calibrator"):
        if name in registry.records(kind):
            other = registry.records(kind)[name].qualified
            draft.mistake(f"recipe={shown(item)}{where}: {name!r} is a preset and {other} too. Rename that {kind}.")


def _differences(one: Layer, other: Layer) -> Iterator[str]:
    """What two presets set differently."""
    for path in one.values:
        if path != _LIST and path in other.values and not _same(one.values[path], other.values[path]):
            first, second = (f"{shown(layer.values[path])} (in {layer.source})" for layer in (one, other))
            yield f"{path}: two presets differ, {first} and {second}. Leave one out, and set what you want of it."


def _same(one: Any, other: Any) -> bool:
    """Whether two texts say the same: 1e-1 is 0.1, and `a,b` is `[a, b]`."""
    try:
        return bool(convert(one, float) == convert(other, float))
    except ValueError:
        return one == other or (items(one) == items(other) != [])


def _expanded(item: str, found: Mapping[str, Layer]) -> list[str]:
    layer = found.get(item.partition("@")[0])
    return [item] if layer is None else [own for own in items(layer.values.get(_LIST, [])) if own != "plain"]


def _without_list(layer: Layer) -> dict[str, Any]:
    return {path: value for path, value in layer.values.items() if path != _LIST}
