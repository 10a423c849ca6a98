"""Where a config's recipes contradict each other, by their records alone: before anything is built."""

from collections.abc import Iterator

from poise import registry
from poise.config.draft import Draft
from poise.config.files import item
from poise.config.schema import Config
from poise.errors import UserError
from poise.rules import (
    RUN_PROVIDES,
    Members,
    Refusal,
    contradictions,
    declaration_of,
    disagreements,
    order,
    unmet_needs,
    void_attacks,
)
from poise.selection import refuse_selection
from poise.strategies import zero_stage


def check_stack(config: Config, draft: Draft) -> None:
    """Members that contradict each other, or need what nobody and no run provides.

    What depends on the data (groups, streams …) is left to the run, as is a stack of which a member decides a
    capability for each instance. Of a stack with a member that is not there nothing more can be said.
    """
    if "recipe" in draft.unresolved:
        return
    members = {a: declaration_of(registry.find("recipe", entry.name)) for a, entry in config.recipe.items()}
    if all(member.settled for member in members.values()):
        stack = ",".join(item(alias, entry) for alias, entry in config.recipe.items() if not entry.brought_by)
        for refusal in _refusals(members, config):
            draft.mistake(f"recipe={stack}: {refusal}.")


def check_selection(config: Config, draft: Draft) -> None:
    """A metric that chooses the epoch and that no validation gives; whether there are groups is left to the run."""
    if "recipe" in draft.unresolved:
        return
    recipes = [registry.find("recipe", entry.name) for entry in config.recipe.values()]
    try:
        refuse_selection(config.selection, any("attack" in recipe.hooks for recipe in recipes), grouped=True)
    except UserError as error:
        draft.mistake(str(error))


def _refusals(members: Members, config: Config) -> Iterator[Refusal]:
    yield from disagreements({a: member for a, member in members.items() if not config.recipe[a].brought_by})
    try:
        order(members)
    except Refusal as refusal:
        yield refusal
    yield from contradictions(members)
    yield from void_attacks(members)
    yield from unmet_needs(members, _may_provide(members, config))


def _may_provide(members: Members, config: Config) -> set[str]:
    """All that this run may provide; a need that no recipe at all provides may be a stream of the data."""
    have = set(RUN_PROVIDES) | {f"table:{name}" for name in config.tables}
    if config.trainer.accumulate > 1:
        have.remove("whole_batch")
    if zero_stage(config.strategy) == 3:
        have.remove("whole_weights")
    by_recipes = set[str]().union(*(record.provides for record in registry.records("recipe").values()))
    needed = set[str]().union(*(member.needs for member in members.values()))
    return have | {need for need in needed - by_recipes - RUN_PROVIDES if not need.startswith("table:")}
