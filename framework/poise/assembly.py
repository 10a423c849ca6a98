"""From recipes to the ordered members of a stack."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any

from torch import nn

from poise import registry
from poise.config.values import convert
from poise.errors import UserError
from poise.recipe import Recipe
from poise.registry.hooks import HOOKS
from poise.registry.imported import parameters_of_object
from poise.registry.record import CAPABILITIES, check_names
from poise.rules import Declaration, Refusal, contradictions, disagreements, guests, order


def assembled(recipes: Any) -> dict[str, Recipe]:
    """The members of a stack by name, those that others bring included, every provider before those that need it.

    Raises:
        Refusal: two members contradict each other.
        UserError: something that is no Recipe, or an alias that cannot be one.
    """
    _refuse_others(recipes.values() if isinstance(recipes, Mapping) else recipes)
    named = dict(recipes) if isinstance(recipes, Mapping) else _named(recipes)
    for name, member in named.items():
        _check_member(name, member)
    named |= _brought(named)
    _check_aliases(named)
    declared = declarations(named)
    ordered = order(declared)
    for refusal in contradictions({name: declared[name] for name in ordered}):
        raise refusal
    return {name: named[name] for name in ordered}


def declarations(members: Mapping[str, Recipe]) -> dict[str, Declaration]:
    """What members declare, by name."""
    return {name: _declaration(member) for name, member in members.items()}


def _declaration(member: Recipe) -> Declaration:
    return Declaration(_hooks_of(member), member.provides, member.needs, member.after, member.conflicts, member.brings)


def _hooks_of(member: Recipe) -> frozenset[str]:
    cls: type = type(member)
    return _hooks(cls)


@cache
def _hooks(cls: type) -> frozenset[str]:
    """The hooks that a class has of its own, looked up once."""
    return frozenset(hook for hook in HOOKS if getattr(cls, hook) is not getattr(Recipe, hook))


def _check_aliases(named: Iterable[str]) -> None:
    for alias in named:
        if not re.fullmatch(r"[A-Za-z]\w*", alias) or hasattr(nn.ModuleDict, alias):
            raise UserError(
                f"{alias!r} cannot name a recipe: use letters, digits and _, and no name of a container's method"
            )


def _check_member(name: str, member: Recipe) -> None:
    """What a class may get wrong and Python does not see."""
    if not hasattr(member, "_modules"):
        raise UserError(f"{name} does not call super().__init__() in its own __init__: a recipe is a module.")
    for attribute in CAPABILITIES:
        check_names(name, attribute, getattr(member, attribute))
    _check_hooks(name, member)
    registry.parameters_of(member)  # which refuses an argument that is not kept: a config could not be written
    _check_numbers(name, member)


def _check_hooks(name: str, member: Recipe) -> None:
    """A method with a hook's arguments and nearly its name is meant as that hook."""
    methods = {m: f for cls in type(member).__mro__ if issubclass(cls, Recipe) for m, f in vars(cls).items()}
    for method, function in methods.items():
        meant = get_close_matches(method, HOOKS, n=1, cutoff=0.7) if method not in vars(Recipe) else []
        if meant and inspect.isfunction(function) and _arguments(function) == _arguments(getattr(Recipe, meant[0])):
            raise UserError(f"{name} has a method {method!r}, which nobody calls. Did you mean {meant[0]!r}?")


def _arguments(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _check_numbers(name: str, member: Recipe) -> None:
    """Arguments beyond the bounds that their types name: what a config refuses, an object does not know of itself."""
    for parameter in parameters_of_object(type(member)):
        value = getattr(member, parameter.name, parameter.default)
        if parameter.type is None or not isinstance(value, int | float):
            continue
        try:
            convert(value, parameter.type)
        except ValueError as error:
            raise UserError(f"{name}.{parameter.name}={value} {error}") from error


def overrides(member: Recipe, hook: str) -> bool:
    """Whether a recipe has a hook of its own."""
    return hook in _hooks_of(member)


def _refuse_others(recipes: Iterable[Any]) -> None:
    for recipe in recipes:
        if not isinstance(recipe, Recipe):
            raise UserError(
                f"{recipe!r} is no Recipe: a stack is made of recipe objects; poise.fit takes names as well, "
                "and calibrators"
            )


def _named(recipes: Sequence[Recipe]) -> dict[str, Recipe]:
    named: dict[str, Recipe] = {}
    for recipe in recipes:
        name = registry.name_of(recipe)
        if name in named:
            raise Refusal(
                "two of one name",
                f"two recipes are called {name}: give one an alias, recipe={name},{name}@second "
                f"or {{'{name}': …, 'second': …}}",
            )
        named[name] = recipe
    return named


def _brought(named: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The members that others bring."""
    declared = declarations(named)
    for refusal in disagreements(declared):
        raise refusal
    return {name: registry.build("recipe", name, **guest.parameters) for name, guest in guests(declared).items()}


def one_replay_count(named: Mapping[str, Recipe]) -> int:
    """How often each batch is trained on in a row."""
    replaying = {name: member.replays for name, member in named.items() if member.replays != 1}
    if len(set(replaying.values())) > 1:
        raise Refusal("replays", f"{replaying} replay batches differently often: give them one number")
    return next(iter(replaying.values()), 1)
