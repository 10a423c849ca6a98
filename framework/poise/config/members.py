"""Lists of named things: which they are, whom they bring, and their parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from poise import registry
from poise.config import presets
from poise.config.draft import Draft, Given
from poise.config.layers import items, shown
from poise.config.schema import NOTHING, Entry
from poise.errors import UserError, nearest, one
from poise.registry import Record
from poise.registry.spaces import names_in, surely_lacks
from poise.rules import Guest, declaration_of, guests


@dataclass(frozen=True)
class Member:
    """A named thing in a list, before its parameters are read.

    Args:
        record: what it is; None where there is no such thing.
        guest: how other members bring it; None where the user names it.
    """

    record: Record | None
    guest: Guest | None = None

    @property
    def brought_by(self) -> str:
        """The member that brings it, first of several; "" where the user names it."""
        return self.guest.bringer if self.guest else ""

    @property
    def brought_with(self) -> dict[str, Any]:
        """Parameters that others give it."""
        return self.guest.parameters if self.guest else {}


def read_names(
    draft: Draft, group: str, kinds: Sequence[str], default: Any, rest: Sequence[str] = ()
) -> dict[str, Member]:
    """The things named in `group=a,b@alias`, by alias, in order.

    Args:
        draft: what the user gave.
        group: such as 'recipe'.
        kinds: of the things.
        default: names where none are given.
        rest: kinds of those after the first, if others.
    """
    given = draft.take(f"{group}.name") or Given(default, 0, "")
    names, nothing = items(given.value), NOTHING.get(group, "")
    said = f"{group}={shown(given.value)}{given.where}"
    if nothing and names == [nothing]:
        return {}
    if nothing and {"plain", "none"} & set(names):
        draft.mistake(f"{said}: {group}={nothing}, alone, is what means none of them.")
        return {}
    if not isinstance(given.value, str | list | tuple) or not all(item.partition("@")[0] for item in names):
        out = f", or write {group}={nothing}" if nothing else ""
        draft.mistake(f"{said} leaves a name empty: give one{out}.")
        return {}
    draft.written[group] = draft.written.get(group) or ",".join(names)  # with presets as their names
    members: dict[str, Member] = {}
    for place, item in enumerate(names):
        name, at, alias = item.partition("@")
        what = f"{group}={shown(item)}{given.where}"
        record = look_up(draft, what, (place and rest) or kinds, name)
        alias = alias if at else name.rpartition(":")[2]
        if record is None:
            draft.unresolved.add(group)
            members.setdefault(alias, Member(None))
        elif not alias.isidentifier() or alias == "name":
            draft.mistake(f"{what}: {shown(alias)!r} cannot be an alias. Use letters, digits and _.")
        elif alias in members:
            draft.mistake(f"{what}: two are called {shown(alias)!r}. Name one {shown(name)}@another_name.")
        else:
            members[alias] = Member(record)
    return members


def look_up(draft: Draft, what: str, kinds: Sequence[str], name: str) -> Record | None:
    """The record of that name in the first kind that has it; else a mistake."""
    if ":" in name:
        return _resolve(draft, what, kinds, name)
    if found := next(filter(None, (registry.named(kind, name) for kind in kinds)), None):
        _check_space(draft, what, found)
        return found
    if other := next((kind for kind in registry.KINDS.values() if registry.named(kind.name, name)), None):
        place = other.place or f"in {other.name}="
        draft.mistake(f"{what}: {name} is {one(other.name)}: it stands {place}.")
        return None
    may_be_preset = "recipe" in kinds and "calibrator" in kinds
    asked = "recipe, calibrator or preset" if may_be_preset else " or ".join(kinds)
    known = [known for kind in kinds for known in registry.records(kind)]
    alike = [*known, *(presets.names() if may_be_preset else ())]
    own = nearest(name.partition("/")[0], alike) or " One of your own is written package.module:Class."
    draft.mistake(f"{what}: there is no {asked} called {shown(name)!r}.{own} (`poise list` shows all.)")
    return None


def _check_space(draft: Draft, what: str, record: Record) -> None:
    """What follows a slash has to be something of that package, as far as its text tells."""
    space, _, rest = record.name.partition("/")
    if record.bound and surely_lacks(space, rest):
        alike = nearest(rest.partition(".")[0], names_in(space))
        draft.mistake(f"{what}: {space} has nothing called {shown(rest)!r}.{alike}")


def _resolve(draft: Draft, what: str, kinds: Sequence[str], name: str) -> Record | None:
    refusal: UserError | None = None
    for kind in kinds:
        try:
            return registry.resolve(kind, name)
        except registry.WrongKindError as error:
            refusal = refusal or error
        except UserError as error:
            refusal = error
            break
    said = str(refusal)
    for part in (name, *name.split(":")):
        said = said.replace(part, shown(part))
    draft.mistake(f"{what.partition('=')[0]}: {said}")
    return None


def with_brought(draft: Draft, members: Mapping[str, Member]) -> dict[str, Member]:
    """The members, each followed by those it brings for one-owner hooks that nobody owns."""
    declared = {alias: declaration_of(member.record) for alias, member in members.items() if member.record}
    try:
        brought = guests(declared)
    except UserError as error:
        draft.mistake(f"recipe={draft.written.get('recipe')} brings a recipe that is not there: {error}")
        return dict(members)
    everyone: dict[str, Member] = {}
    for alias, member in members.items():
        everyone[alias] = member
        for name, guest in brought.items():
            if guest.bringer == alias:
                everyone[name] = Member(registry.find("recipe", name), guest)
    return everyone


def read_parameters(draft: Draft, group: str, members: Mapping[str, Member]) -> dict[str, Entry]:
    """The members with all their parameters. What layers below the list said of others is forgotten."""
    entries: dict[str, Entry] = {}
    for alias, member in members.items():
        prefix = f"{group}.{alias}"
        if member.record is None:
            draft.ignore(prefix)
            continue
        params = draft.parameters(prefix, member.record, member.brought_with)
        for bringer, wish in (member.guest.wishes if member.guest else {}).items():
            for name in wish:
                draft.origins.setdefault(f"{prefix}.{name}", f"brought by {bringer}")
        draft.refuse_unknown(prefix, alias, [p.name for p in member.record.parameters])
        entries[alias] = Entry(member.record.name, params, member.brought_by)
    return entries


def refuse_strangers(
    draft: Draft, group: str, level: int, members: Mapping[str, Member], hints: Mapping[str, str]
) -> None:
    """Parameters addressed to a member that is not there are a mistake, unless a higher layer took it out."""
    draft.ignore(group, below_level=level)
    aliases = list(members)
    strangers: dict[str, str] = {}
    for path in draft.below(group):
        alias = path.split(".")[1]
        strangers.setdefault(alias, path)
    for alias, path in strangers.items():
        given = draft.take(path)
        where = given.where if given else ""
        add = f" Add it: {group}={','.join(filter(None, [draft.written.get(group), shown(alias)]))}"
        hint = hints.get(alias) or _meant(path, members) or nearest(alias, aliases) or add
        listed = ",".join(aliases) or NOTHING[group]
        wrong = f"{shown(alias)!r} is not in {group}={listed}.{hint}"
        if alias in members:
            wrong = f"{alias} is a member. Set one of its parameters, {path}.<parameter>=<value>."
        draft.mistake(f"{shown(path)}{where}: {wrong}")
        draft.ignore(f"{group}.{alias}")


def _meant(path: str, members: Mapping[str, Member]) -> str:
    """What a path most likely means: a parameter without its member, or a member by another name than its alias."""
    group, first, *rest = path.split(".")
    for alias, record in ((alias, member.record) for alias, member in members.items() if member.record):
        if rest and first == record.address:
            return f" {first} is called {alias!r} here. Did you mean {'.'.join([group, alias, *rest])}?"
        if not rest and record.parameter(first):
            return f" Did you mean {group}.{alias}.{first}?"
    return ""
