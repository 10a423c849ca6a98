"""What cannot be a stack, by what its members declare: one set of rules for names in a config and for objects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, get_args

from poise import registry
from poise.errors import UserError
from poise.registry import Record
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

RUN_PROVIDES = frozenset(
    {
        "class_counts",
        "clean",
        "features",
        "group_counts",
        "groups",
        "index",
        "layers",
        "predict",
        "whole_batch",
        "whole_weights",
    }
)


class Refusal(UserError):
    """A stack that cannot train, with one reason of a closed list, said before the first step."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Declaration:
    """What the rules look at in a member.

    Args:
        hooks: those it has of its own.
        provides, needs, after, conflicts: capabilities, as of Recipe.
        brings: as of Recipe.
        settled: whether this is all; a class that decides a capability for each instance leaves it open.
    """

    hooks: frozenset[str]
    provides: frozenset[str]
    needs: frozenset[str]
    after: frozenset[str]
    conflicts: frozenset[str]
    brings: Mapping[str, Mapping[str, Any]]
    settled: bool = True

    @property
    def owned(self) -> frozenset[str]:
        """The one-owner hooks among its own."""
        return self.hooks & frozenset(ONE_OWNER)


Members = Mapping[str, Declaration]


def declaration_of(record: Record) -> Declaration:
    """What a record declares."""
    names = ("provides", "needs", "after", "conflicts")
    settled = all(name in record.attributes for name in names)
    capabilities = {name: frozenset(record.attributes.get(name, ())) for name in names}
    return Declaration(frozenset(record.hooks), **capabilities, brings=record.brings, settled=settled)


@dataclass(frozen=True)
class Guest:
    """A member that others bring.

    Args:
        wishes: the parameters that each of them brings it with, by its alias, the first one's first.
    """

    wishes: Mapping[str, Mapping[str, Any]]

    @property
    def bringer(self) -> str:
        """The first member that brings it."""
        return next(iter(self.wishes))

    @property
    def parameters(self) -> dict[str, Any]:
        """What it is brought with: where two disagree, as the first one wishes."""
        return {name: value for wish in reversed(list(self.wishes.values())) for name, value in wish.items()}


def guests(members: Members) -> dict[str, Guest]:
    """Whom the members bring, for one-owner hooks that nobody owns.

    Raises:
        UserError: a recipe that does not exist.
    """
    taken = set[str]().union(*(member.owned for member in members.values()))
    found: dict[str, Guest] = {}
    for alias, member in members.items():
        for name, wish in member.brings.items():
            owned = declaration_of(registry.find("recipe", name)).owned
            if name in found:
                found[name] = Guest({**found[name].wishes, alias: wish})
            elif name not in members and not owned & taken:
                found[name] = Guest({alias: wish})
                taken |= owned
    return found


def disagreements(members: Members) -> Iterator[Refusal]:
    """Members that bring one recipe with different parameters, or two for one hook: not all can have it their way.

    None where members contradict each other, which has to be settled first.
    """
    if any(True for _ in contradictions(members)):
        return
    yield from _rivals(members)
    for name, guest in guests(members).items():
        for (first, one), (second, other) in combinations(guest.wishes.items(), 2):
            for parameter in [parameter for parameter in one if other.get(parameter, one[parameter]) != one[parameter]]:
                yield Refusal(
                    "conflict",
                    f"{first} brings {name} with {parameter}={one[parameter]}, {second} with {parameter}="
                    f"{other[parameter]}: add {name} to the stack yourself, and set its {parameter}",
                )


def _rivals(members: Members) -> Iterator[Refusal]:
    """Members each of which brings another owner of a hook that nobody else owns."""
    taken = set[str]().union(*(member.owned for member in members.values()))
    found = [
        (alias, name, owned)
        for alias, member in members.items()
        for name in member.brings
        if name not in members and not (owned := declaration_of(registry.find("recipe", name)).owned) & taken
    ]
    for (first, one, owned), (second, other, others) in combinations(found, 2):
        if first != second and one != other and (shared := owned & others):
            yield Refusal(
                "conflict",
                f"{first} brings {one} and {second} brings {other}, which both decide the "
                f"{min(shared).replace('_', ' ')} of a step: add the one that you mean to the stack yourself",
            )


def order(members: Members) -> list[str]:
    """The members' names, every provider before those that come after it, otherwise as given.

    Raises:
        Refusal: members that each ask to come after the other.
    """
    waiting, ordered = list(members), list[str]()
    while waiting:
        ready = next((name for name in waiting if not _awaited(name, waiting, members)), None)
        if ready is None:
            raise Refusal("order", f"{' and '.join(waiting)} each ask to come after the other: leave one out")
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def _awaited(name: str, waiting: Iterable[str], members: Members) -> bool:
    return any(other != name and members[name].after & members[other].provides for other in waiting)


def contradictions(members: Members) -> Iterator[Refusal]:
    """Two owners of a one-owner hook, and members that exclude each other."""
    for hook in ONE_OWNER:
        owners = [name for name, member in members.items() if hook in member.hooks]
        if len(owners) > 1:
            who = f"{' and '.join(owners)} {'both' if len(owners) == 2 else 'all'}"
            yield Refusal("two owners", f"{who} decide the {hook.replace('_', ' ')} of a step: keep one of them")
    excluded = set[frozenset[str]]()
    for name, member in members.items():
        for other, rival in members.items():
            pair = frozenset({name, other})
            if other != name and pair not in excluded and (shared := sorted(member.conflicts & rival.provides)):
                excluded.add(pair)  # each may exclude the other: once is enough
                makes = f"{name} cannot train with {other}, which makes {_listed(shared)}"
                yield Refusal("conflict", f"{makes}: keep one of them")


def void_attacks(members: Members) -> Iterator[Refusal]:
    """An attack that nobody trains on would cost its passes and change nothing."""
    for name, attacker in members.items():
        if "attack" not in attacker.hooks or "objective" in attacker.hooks:
            continue
        if any(member.needs & attacker.provides for member in members.values()):
            continue
        known = registry.records("recipe").values()
        users = ", ".join(r.name for r in known if r.needs & attacker.provides and "objective" in r.hooks)
        way = f"add one that does ({users})" if users else 'declare what it provides, such as frozenset({"attack"})'
        yield Refusal("attack not used", f"{name} attacks every batch, and no member trains on what it finds: {way}")


def unmet_needs(members: Members, provided: Iterable[str]) -> Iterator[Refusal]:
    """Needs that neither the members nor the run (`provided`) meet."""
    have = set(provided).union(*(member.provides for member in members.values()))
    for name, member in members.items():
        if missing := sorted(member.needs - have):
            yield Refusal("unmet need", f"{name} needs {_listed(missing)}: {_way_out(missing[0])}")


def _listed(capabilities: Sequence[str]) -> str:
    return " and ".join(f"`{capability}`" for capability in capabilities)


_WAYS_OUT = {
    "groups": "use data with groups (data=colored_digits, group_train … in the npz, a column group in an "
    "image_folder's metadata.csv, the wrapper spurious_color); in a script of your own, batches (x, y, group) and "
    "TrainingModule(num_groups=…)",
    "index": "give batches as dicts with an `index` of int64 positions in the training set",
    "whole_batch": "train without accumulation (trainer.accumulate=1)",
    "whole_weights": "use a strategy that keeps whole weights on each rank (ddp, deepspeed_zero1 or 2)",
    "features": "use a model whose last linear layer can be found, or a Classifier",
    "layers": "use a Classifier with layer_names",
    "class_counts": "train through poise.fit, or give TrainingModule(splits=…)",
    "group_counts": "train through poise.fit, or give TrainingModule(splits=…)",
}

_MADE_BY = {"layer:mixing": ", such as model=mixture without model.alpha"}


def _way_out(capability: str) -> str:
    """What to do where nobody provides a capability."""
    if capability.startswith("table:"):
        name = capability.removeprefix("table:")
        return f"give tables.{name}=<file or run>"
    if capability.startswith("layer:"):
        return f"use a model with a layer {capability.removeprefix('layer:')!r}{_MADE_BY.get(capability, '')}"
    if capability in _WAYS_OUT:
        return _WAYS_OUT[capability]
    makers = ", ".join(r.name for r in registry.records("recipe").values() if capability in r.provides)
    return f"add a recipe{f' ({makers})' if makers else ' or data'} that provides `{capability}`"
