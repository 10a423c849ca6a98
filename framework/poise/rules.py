"""What cannot be a stack, by what its members declare: one set of rules for names in a config and for objects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

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
    """

    hooks: frozenset[str]
    provides: frozenset[str]
    needs: frozenset[str]
    after: frozenset[str]
    conflicts: frozenset[str]


Members = Mapping[str, Declaration]


def declaration_of(record: Record) -> Declaration | None:
    """What a record declares; None where its class decides a capability for each instance."""
    names = ("provides", "needs", "after", "conflicts")
    if not all(isinstance(record.attributes.get(name), frozenset) for name in names):
        return None
    return Declaration(frozenset(record.hooks), *(record.attributes[name] for name in names))


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
    for name, member in members.items():
        for other, rival in members.items():
            if other != name and (shared := sorted(member.conflicts & rival.provides)):
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
    "groups": "use data with groups (data=colored_digits, or group_train, group_val … in the npz); in a script of "
    "your own, batches (x, y, group) and TrainingModule(num_groups=…)",
    "index": "give batches as dicts with an `index` of int64 positions in the training set",
    "whole_batch": "train without accumulation (trainer.accumulate=1)",
    "whole_weights": "use a strategy that keeps whole weights on each rank (ddp, deepspeed_zero1 or 2)",
    "features": "use a model whose last linear layer can be found, or a Classifier",
    "layers": "use a Classifier with layer_names",
    "class_counts": "train through poise.fit, or give TrainingModule(class_counts=…)",
    "group_counts": "train through poise.fit, or give TrainingModule(group_counts=…)",
}


def _way_out(capability: str) -> str:
    """What to do where nobody provides a capability."""
    if capability.startswith("table:"):
        name = capability.removeprefix("table:")
        return f"give tables.{name}=<file or run>"
    if capability in _WAYS_OUT:
        return _WAYS_OUT[capability]
    makers = ", ".join(r.name for r in registry.records("recipe").values() if capability in r.provides)
    return f"add a recipe{f' ({makers})' if makers else ' or data'} that provides `{capability}`"
