"""All pairs and triples of registered recipes: each trains or is refused before training, with a reviewed reason.

What is refused stands in refusals.txt: every refused recipe and pair, and those triples that are not refused with
the very words of a recipe or pair in them. After a change, write it anew and read what changed:

    POISE_ACCEPT=1 tests/run.sh tests/contracts/test_stacks.py -k reviewed
"""

import re
from collections.abc import Iterable, Iterator
from itertools import combinations, permutations
from math import isfinite
from pathlib import Path

import pytest
from torch.nn.functional import cross_entropy as nll

from contracts import kit
from poise import registry
from poise.registry.hooks import HOOKS, ONE_OWNER
from poise.rules import REASONS, Refusal
from poise.stack import RecipeStack
from written import hold

FILE = Path(__file__).parent / "refusals.txt"
RECORDS = registry.records("recipe")
NAMED = (
    "trades,mixup,group_dro",
    "trades,awp,group_dro,mixup",
    "pgd_at,awp,mixup",
    "projection_head,trades,mixup",
)
RECIPES = r"\(\w+(, \w+)*\)"  # that would do: they change with every recipe added
OUTSIDE_THE_STEP = {"setup", "passes", "on_epoch_start", "on_step_end", "on_epoch_end"}

Names = tuple[str, ...]
Refusals = dict[Names, str]


def combined(*sizes: int) -> Iterator[Names]:
    return (names for size in sizes for names in combinations(RECORDS, size))


def built(names: Names) -> RecipeStack:
    """The stack, with its needs looked at."""
    stack = kit.stack(names)
    stack.require(kit.RUN, kit.kind_for(names, "image"))
    return stack


def said(refusal: Refusal) -> str:
    assert refusal.reason in REASONS
    return f"{refusal.reason}: {re.sub(RECIPES, '(…)', str(refusal))}"


def owned_hooks(names: Names) -> tuple[Names, ...]:
    """What each of some recipes does in a step, in a fixed order."""
    each = (tuple(h for h in RECORDS[name].hooks if h not in OUTSIDE_THE_STEP) for name in names)
    return tuple(sorted(each))


@pytest.fixture(scope="module")
def at_construction() -> Refusals:
    """What is refused of all recipes, pairs and triples, from the recipes alone."""
    refusals: Refusals = {}
    for names in combined(1, 2, 3):
        try:
            built(names)
        except Refusal as refusal:
            refusals[names] = said(refusal)
    return refusals


@pytest.fixture(scope="module")
def refused(at_construction: Refusals) -> Refusals:
    """What is refused before the first step: this adds what only a trial step shows."""
    refusals = dict(at_construction)
    for names in combined(1, 2):
        if names not in refusals:
            try:
                kit.admitted(names, kit.kind_for(names, "image"))
            except Refusal as refusal:
                refusals[names] = said(refusal)
    return refusals


def test_every_pair_trains_or_is_refused_before_training(refused: Refusals) -> None:
    failed = {}
    for names in combined(1, 2):
        if names in refused:
            continue
        made = kit.admitted(names, kit.kind_for(names, "image"))
        try:
            kit.fit(made, steps=3)
        except Exception as error:
            failed[names] = repr(error)
        else:
            if not kit.finite(made):
                failed[names] = "not finite"
    assert failed == {}


def test_a_triple_of_each_kind_trains_in_the_passes_it_declares(at_construction: Refusals) -> None:
    kinds = {owned_hooks(names): names for names in combined(3) if names not in at_construction}
    failed = {}
    for names in kinds.values():
        kind = kit.kind_for(names, "tabular")  # the quickest
        try:
            made = kit.admitted(names, kind)
        except Refusal as refusal:
            said(refusal)
            continue
        try:
            with kit.counted_passes(made.model) as seen:
                kit.one_step(made, kit.record(kind, rows=kit.BATCH))
            losses = kit.by_hand(made, 2)
        except Exception as error:
            failed[names] = repr(error)
            continue
        if not (kit.finite(made) and all(map(isfinite, losses))):
            failed[names] = "not finite"
        if seen.passes != made.stack.passes():
            failed[names] = f"declares {made.stack.passes()}, makes {seen.passes}"
    assert len(kinds) > 100
    assert failed == {}


@pytest.mark.parametrize("names", NAMED)
def test_these_stacks_train_and_are_calibrated(names: str) -> None:
    made = kit.admitted(names.split(","), epochs=2)
    kit.fit(made, epochs=2)
    step = made.detached_step(kit.current_ranks())
    made.stack.after_fit(step)
    assert kit.finite(made)
    held_out = step.predict("calibration")
    calibrated = registry.build("calibrator", "temperature_scaling").fit(held_out)(held_out.logits)
    assert calibrated.isfinite().all()
    assert float(nll(calibrated, held_out.label)) <= float(nll(held_out.logits, held_out.label)) + 1e-6


def test_two_owners_of_a_hook_are_refused_and_nobody_else(at_construction: Refusals) -> None:
    def clashes(names: Names) -> bool:
        return any(sum(hook in RECORDS[name].hooks for name in names) > 1 for hook in ONE_OWNER)

    told = {names for names, text in at_construction.items() if text.startswith("two owners: ")}
    assert told == {names for names in combined(1, 2, 3) if clashes(names)}


def test_unmet_needs_are_refused_and_nobody_else(at_construction: Refusals) -> None:
    def lacks(names: Names) -> bool:
        present = present_in(names)
        have = kit.RUN.union(*(RECORDS[name].provides for name in present))
        return any(RECORDS[name].needs - have for name in present)

    told = {names for names, text in at_construction.items() if text.startswith("unmet need: ")}
    others = set(at_construction) - told
    assert told == {names for names in combined(1, 2, 3) if lacks(names)} - others


def present_in(names: Names) -> list[str]:
    """Recipes, and those they bring for hooks of one owner that are still free."""
    present = list(names)
    taken = {hook for name in names for hook in RECORDS[name].hooks}
    for guest in (guest for name in names for guest in RECORDS[name].brings):
        owned = {hook for hook in RECORDS[guest].hooks if HOOKS[hook] == "one"}
        if guest not in present and not owned & taken:
            present.append(guest)
            taken |= owned
    return present


def test_the_order_given_changes_no_refusal(at_construction: Refusals) -> None:
    for names in combined(2):
        reason = at_construction.get(names, "").partition(":")[0]
        for turned in permutations(names):
            if reason:
                with pytest.raises(Refusal) as caught:
                    built(turned)
                assert caught.value.reason == reason
            else:
                built(turned)


def test_the_refusals_are_the_reviewed_ones(refused: Refusals) -> None:
    lines = sorted(f"{', '.join(names)}: {text}" for names, text in refused.items() if not follows(names, refused))
    hold(FILE, "".join(f"{line}\n" for line in lines))


def follows(names: Names, refused: Refusals) -> bool:
    """Whether a triple is refused with the words of a recipe or a pair in it."""
    parts: Iterable[Names] = (part for size in (1, 2) for part in combinations(names, size))
    return len(names) == 3 and any(refused.get(part) == refused[names] for part in parts)
