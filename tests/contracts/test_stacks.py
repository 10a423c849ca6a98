"""All pairs and triples of registered recipes: each trains or is refused before training, with a reviewed reason.

What is refused stands in refusals.txt: every refused recipe and pair, and those triples that are not refused with
the very words of a recipe or pair in them. After a change, write it anew and read what changed:

    POISE_ACCEPT=1 tests/run.sh tests/contracts/test_stacks.py -k reviewed
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations, permutations
from math import isfinite
from pathlib import Path

import pytest
from torch.nn.functional import cross_entropy as nll

from contracts import kit
from poise import registry
from poise.module import TrainingModule
from poise.recipe import Recipe
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
    "fgsm_rs",
    "fgsm_rs,trades,ema",
    "fgsm_rs,cutmix,label_smoothing,ema",
    "pgd_at,cutmix,ema",
    "pgd_at,logit_adjustment,ema",
    "trades,class_balanced,label_smoothing",
    "gaussian_noise,label_smoothing,ema",
    "gaussian_noise,pgd_at,awp",
    "mixup,class_balanced,label_smoothing",
    "cutmix,logit_adjustment,ema",
    "group_dro,label_smoothing,ema",
    "sup_con,mixup,class_balanced",
    "sup_con,gaussian_noise,label_smoothing,ema",
    "projection_head,cutmix,class_balanced_sampling,ema",
    "projection_head,gaussian_noise,logit_adjustment,label_smoothing",
    "projection_head,fgsm_rs,awp,mixup,group_dro,label_smoothing,ema",
)
RECIPES = r"\(\w+(, \w+)*\)"  # that would do: they change with every recipe added
OUTSIDE_THE_STEP = {"setup", "passes", "on_epoch_start", "on_step_end", "on_epoch_trained", "on_epoch_end"}
BY_A_TRAINER_ALONE = {"lr_factor", "eval_weights", "on_epoch_start", "on_epoch_trained", "on_epoch_end"}

Names = tuple[str, ...]
Refusals = dict[Names, str]


def combined(*sizes: int) -> Iterator[Names]:
    return (names for size in sizes for names in combinations(RECORDS, size))


def built(names: Names) -> RecipeStack:
    """The stack, with its needs looked at; of members that all stacks share, for no hook is called."""
    stack = RecipeStack({name: member(name) for name in names})
    stack.require(kit.RUN, kit.kind_for(names, "image"))
    return stack


@cache
def member(name: str) -> Recipe:
    """A recipe as it is by default."""
    made: Recipe = registry.build("recipe", name)
    return made


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


@dataclass(frozen=True)
class Walk:
    """What became of every recipe and pair: refused before the first step, or trained, or failed, with the words."""

    refused: Refusals
    failed: dict[Names, str]


@pytest.fixture(scope="module")
def walk(at_construction: Refusals) -> Walk:
    """Every recipe and pair, once; what is refused at construction, with what only a trial step shows."""
    walked = Walk(dict(at_construction), {})
    flip = {"flip": registry.build("augmentation", "flip")}  # the quickest; every recipe alone meets all of them
    for names in combined(1, 2):
        if names in walked.refused:
            continue
        try:
            made = kit.admitted(names, kit.kind_for(names, "image"), augment=flip)
        except Refusal as refusal:
            walked.refused[names] = said(refusal)
            continue
        meet = all(BY_A_TRAINER_ALONE.intersection(RECORDS[name].hooks) for name in names)
        if trouble := trouble_in(by_a_trainer if meet else kit.by_hand, made):
            walked.failed[names] = trouble
    return walked


def by_a_trainer(made: TrainingModule) -> list[float]:
    kit.fit(made, steps=3)
    return []


def trouble_in(train: Callable[[TrainingModule], list[float]], made: TrainingModule) -> str:
    """What goes wrong in a training that gives the losses it saw, or nothing."""
    try:
        losses = train(made)
    except Exception as error:
        return repr(error)
    return "" if kit.finite(made) and all(map(isfinite, losses)) else "not finite"


def test_every_pair_trains_or_is_refused_before_training(walk: Walk) -> None:
    assert walk.failed == {}


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
        with kit.counted_passes(made.model) as seen:
            trouble = trouble_in(partial(kit.by_hand, steps=2), made)
        declared = made.stack.passes()
        if trouble or seen.passes != declared + declared:
            failed[names] = trouble or f"declares {declared} a step, makes {seen.passes} in two"
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


def test_these_stacks_cross_the_families_of_their_members() -> None:
    stacks = [frozenset(map(family, names.split(","))) for names in NAMED]
    families = frozenset[str]().union(*stacks)
    apart = [pair for pair in combinations(sorted(families), 2) if not any(stack >= set(pair) for stack in stacks)]
    assert len(stacks) >= 20
    assert apart == []


def family(name: str) -> str:
    """The folder a recipe is in."""
    return RECORDS[name].qualified.split(".")[-2]


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


def test_the_refusals_are_the_reviewed_ones(walk: Walk) -> None:
    refused = walk.refused
    lines = sorted(f"{', '.join(names)}: {text}" for names, text in refused.items() if not follows(names, refused))
    hold(FILE, "".join(f"{line}\n" for line in lines))


def follows(names: Names, refused: Refusals) -> bool:
    """Whether a triple is refused with the words of a recipe or a pair in it."""
    parts: Iterable[Names] = (part for size in (1, 2) for part in combinations(names, size))
    return len(names) == 3 and any(refused.get(part) == refused[names] for part in parts)
