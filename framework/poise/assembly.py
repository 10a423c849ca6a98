"""From recipes to the ordered members of a stack, and what cannot be one."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from torch import nn

from poise import registry
from poise.errors import UserError
from poise.recipe import Recipe
from poise.registry.hooks import ONE_OWNER

Reason = Literal[
    "two of one name",
    "two owners",
    "unmet need",
    "conflict",
    "order",
    "never called",
    "attack not used",
    "kind of data",
    "replays",
]
REASONS: tuple[str, ...] = get_args(Reason)


class Refusal(UserError):
    """A stack that cannot train, with one reason of a closed list, said before the first step."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def assembled(recipes: Any) -> dict[str, Recipe]:
    """The members of a stack by name, those that others bring included, every provider before those that need it.

    Raises:
        Refusal: two members contradict each other.
        UserError: something that is no Recipe, or an alias that cannot be one.
    """
    _refuse_others(recipes.values() if isinstance(recipes, Mapping) else recipes)
    named = dict(recipes) if isinstance(recipes, Mapping) else _named(recipes)
    named |= _brought(named)
    _check_aliases(named)
    ordered = _ordered(named)
    _refuse_two_owners(ordered)
    _refuse_conflicts(ordered)
    return ordered


def _check_aliases(named: Iterable[str]) -> None:
    for alias in named:
        if not re.fullmatch(r"[A-Za-z]\w*", alias) or hasattr(nn.ModuleDict, alias):
            raise UserError(
                f"{alias!r} cannot name a recipe: use letters, digits and _, and no name of a container's method"
            )


def overrides(member: Recipe, hook: str) -> bool:
    """Whether a recipe has a hook of its own."""
    return getattr(type(member), hook) is not getattr(Recipe, hook)


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
    """The members that others bring, for one-owner hooks that nobody owns."""
    taken = {hook for hook in ONE_OWNER for member in named.values() if overrides(member, hook)}
    brought: dict[str, Recipe] = {}
    for member in named.values():
        for name, parameters in member.brings.items():
            guest: Any = registry.build("recipe", name, **parameters)
            owned = {hook for hook in ONE_OWNER if overrides(guest, hook)}
            if name not in named and not owned & taken:
                brought[name] = guest
                taken |= owned
    return brought


def _ordered(named: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The members with every provider before those that come after it, otherwise in the order given."""
    waiting, ordered = dict(named), {}
    while waiting:
        ready = next((name for name in waiting if not _awaited(name, waiting)), None)
        if ready is None:
            raise Refusal("order", f"{' and '.join(waiting)} each ask to come after the other: leave one out")
        ordered[ready] = waiting.pop(ready)
    return ordered


def _awaited(name: str, waiting: Mapping[str, Recipe]) -> bool:
    return any(other != name and waiting[name].after & member.provides for other, member in waiting.items())


def _refuse_two_owners(named: Mapping[str, Recipe]) -> None:
    for hook in ONE_OWNER:
        owners = [name for name, member in named.items() if overrides(member, hook)]
        if len(owners) > 1:
            who = f"{' and '.join(owners)} {'both' if len(owners) == 2 else 'all'}"
            raise Refusal("two owners", f"{who} decide the {hook.replace('_', ' ')} of a step: keep one of them")


def _refuse_conflicts(named: Mapping[str, Recipe]) -> None:
    for name, member in named.items():
        for other, rival in named.items():
            if other != name and (shared := sorted(member.conflicts & rival.provides)):
                raise Refusal(
                    "conflict",
                    f"{name} cannot train with {other}, which makes {listed(shared)}: keep one of them",
                )


def one_replay_count(named: Mapping[str, Recipe]) -> int:
    """How often each batch is trained on in a row."""
    replaying = {name: member.replays for name, member in named.items() if member.replays != 1}
    if len(set(replaying.values())) > 1:
        raise Refusal("replays", f"{replaying} replay batches differently often: give them one number")
    return next(iter(replaying.values()), 1)


def listed(capabilities: Sequence[str]) -> str:
    """Capabilities as a message names them."""
    return " and ".join(f"`{capability}`" for capability in capabilities)


_WAYS_OUT = {
    "groups": "use data with groups (data=colored_digits, or group_train, group_val … in the npz); in a script of "
    "your own, batches (x, y, group) and TrainingModule(num_groups=…)",
    "attack": "add a recipe that attacks",
    "index": "give batches as dicts with an `index` of int64 positions in the training set",
    "whole_batch": "train without accumulation (trainer.accumulate=1)",
    "whole_weights": "use a strategy that keeps whole weights on each rank (ddp, deepspeed_zero1 or 2)",
    "features": "use a model whose last linear layer can be found, or a Classifier",
    "layers": "use a Classifier with layer_names",
    "class_counts": "train through poise.fit, or give TrainingModule(class_counts=…)",
    "group_counts": "train through poise.fit, or give TrainingModule(group_counts=…)",
}


def way_out(capability: str) -> str:
    """What to do where nobody provides a capability."""
    if capability.startswith("table:"):
        name = capability.removeprefix("table:")
        return f"give tables.{name}=<file or run>"
    return _WAYS_OUT.get(capability, f"add a recipe or data that provides `{capability}`")
