"""Who is in a stack, who is refused, and what the members' declarations come to."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from poise import registry
from poise.batch import Batch, Outcome
from poise.errors import UserError
from poise.recipe import Passes, Recipe, Task
from poise.rules import REASONS, Refusal
from poise.stack import RecipeStack
from poise.step import Step
from stack_members import (
    ROWS,
    Absolute,
    Added,
    Attack,
    Needs,
    Objective,
    Second,
    Up,
    WantsClean,
    Weights,
    batch,
    step,
)

# -- who is in a stack ---------------------------------------------------------------------------------------------


class Provider(Recipe):
    provides: ClassVar[frozenset[str]] = frozenset({"mixed"})


class After(Recipe):
    after: ClassVar[frozenset[str]] = frozenset({"mixed"})
    conflicts: ClassVar[frozenset[str]] = frozenset()


class Against(Recipe):
    conflicts: ClassVar[frozenset[str]] = frozenset({"mixed"})


class Circle(After, Provider):
    pass


class Replays(Recipe):
    def __init__(self, replays: int = 2) -> None:
        super().__init__()
        self.replays = replays


class Pictures(Recipe):
    accepts: ClassVar[frozenset[str]] = frozenset({"image"})


def test_the_empty_stack_is_plain() -> None:
    stack, rows = RecipeStack(), batch()
    assert stack.names == ()
    assert stack.owner("objective")[0] == "plain"
    assert stack.passes() == Passes(forwards=1, full_backwards=1)
    assert stack.collectives() == 0
    assert stack.replays == 1
    assert stack.eval_weights() is None
    assert stack.lr_factor(step(stack)) == 1.0
    assert stack.sample_weights(Task(3, 10), 0) is None
    of = step(stack)
    torch.testing.assert_close(stack.loss(rows, of)(), nn.functional.cross_entropy(of.model(rows.x), rows.label))


def test_members_keep_their_order_but_providers_come_first() -> None:
    given_order = {"late": After(), "a": Added(), "first": Provider(), "b": Added()}
    assert RecipeStack(given_order).names == ("a", "first", "late", "b")
    assert RecipeStack({"b": Added(), "a": Added()}).names == ("b", "a")


def refusal(members: Mapping[str, Recipe]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        RecipeStack(members).require({"clean"}, "tabular")
    assert caught.value.reason in REASONS
    return caught.value


@pytest.mark.parametrize(
    ("members", "reason", "message"),
    [
        (
            {"one": Objective(), "two": Second()},
            "two owners",
            "one and two both decide the objective of a step: keep one of them",
        ),
        (
            {"against": Against(), "mixer": Provider()},
            "conflict",
            "against cannot train with mixer, which makes `mixed`: keep one of them",
        ),
        (
            {"needy": Needs()},
            "unmet need",
            "needy needs `attack`: add a recipe (fgsm_rs, free_at, pgd) that provides `attack`",
        ),
        ({"a": Circle(), "b": Circle()}, "order", "a and b each ask to come after the other: leave one out"),
        (
            {"pictures": Pictures()},
            "kind of data",
            "pictures works on image data, and this is tabular data",
        ),
        (
            {"two": Replays(2), "three": Replays(3)},
            "replays",
            "{'two': 2, 'three': 3} replay batches differently often: give them one number",
        ),
    ],
)
def test_refusals_name_both_sides_and_the_way_out(members: Mapping[str, Recipe], reason: str, message: str) -> None:
    refused = refusal(members)
    assert (refused.reason, str(refused)) == (reason, message)


@pytest.mark.parametrize(
    ("need", "way_out"),
    [
        ("groups", "data=colored_digits"),
        ("index", "dicts with an `index`"),
        ("whole_batch", "trainer.accumulate=1"),
        ("whole_weights", "deepspeed_zero1"),
        ("features", "a model whose last linear layer can be found"),
        ("layers", "a Classifier with layer_names"),
        ("class_counts", "train through poise.fit"),
        ("table:errors", "give tables.errors=<file or run>"),
        ("views", r"add a recipe \(sup_con, tiny_views\) that provides `views`"),
    ],
)
def test_an_unmet_need_says_how_to_meet_it(need: str, way_out: str) -> None:
    class Needy(Recipe):
        needs = frozenset({need})

    stack = RecipeStack({"needy": Needy()})
    with pytest.raises(Refusal, match=way_out):
        stack.require(set())
    stack.require({need})


def test_two_of_one_name_need_an_alias() -> None:
    with pytest.raises(Refusal, match="two recipes are called Added: give one an alias") as caught:
        RecipeStack([Added(), Added()])
    assert caught.value.reason == "two of one name"
    assert RecipeStack({"one": Added(), "two": Added()}).names == ("one", "two")


@pytest.mark.parametrize("wrong", [["a_name"], "a_name", {"alias": nn.Linear(2, 2)}])
def test_what_is_no_recipe_is_refused(wrong: Any) -> None:
    make = getattr(RecipeStack.__init__, "__wrapped__", RecipeStack.__init__)  # without the shape checks of tests
    with pytest.raises(UserError, match="is no Recipe: a stack is made of recipe objects"):
        make(RecipeStack.__new__(RecipeStack), wrong)


# -- what a stack costs --------------------------------------------------------------------------------------------


def test_passes_add_up_with_what_the_stack_fills_in() -> None:
    assert RecipeStack([Attack()]).passes() == Passes(4, 3, 1)
    assert RecipeStack([WantsClean()]).passes() == Passes(1, 0, 1)  # the plain objective passes the clean input
    assert RecipeStack([Objective(), WantsClean()]).passes() == Passes(2, 0, 1)
    assert RecipeStack([Up()]).passes() == Passes(2, 0, 2)
    assert RecipeStack([Attack(), Objective(), WantsClean(), Up()]).passes() == Passes(7, 3, 2)


def test_collectives_add_up_with_the_scaling_and_the_second_evaluation() -> None:
    weights = torch.ones(ROWS)
    assert RecipeStack([Needs()]).collectives() == 2
    assert RecipeStack([Weights(weights)]).collectives() == 1
    assert RecipeStack([Absolute(weights)]).collectives() == 0
    assert RecipeStack({"a": Weights(weights), "b": Weights(weights), "c": Needs()}).collectives() == 3
    assert RecipeStack([Up(), Added(), Needs()]).collectives() == 1 + 2 * 3 + 2


def test_two_that_bring_one_recipe_differently_are_refused() -> None:
    class Weak(Recipe):
        brings = {"pgd": {"steps": 1}}
        needs = frozenset({"attack"})

        def objective(self, batch: Batch, step: Step) -> Outcome:
            raise NotImplementedError

    class Strong(Recipe):
        brings = {"pgd": {"steps": 20}}

    class AnyAttack(Recipe):
        brings = {"pgd": {}}

    message = "weak brings pgd with steps=1, strong with steps=20: add pgd to the stack yourself, and set its steps"
    refused = refusal({"weak": Weak(), "strong": Strong()})
    assert (refused.reason, str(refused)) == ("conflict", message)
    either = RecipeStack({"weak": Weak(), "any": AnyAttack()})
    assert registry.parameters_of(either.members["pgd"])["steps"] == 1
    pgd = registry.build("recipe", "pgd", steps=3)
    assert RecipeStack({"weak": Weak(), "strong": Strong(), "pgd": pgd}).names == ("weak", "strong", "pgd")


def test_two_that_bring_rivals_are_refused_in_either_order_and_not_where_one_is_named() -> None:
    class Clean(Recipe):
        brings = {"trades": {}, "pgd": {}}

    class Attacked(Recipe):
        brings = {"pgd_at": {}, "pgd": {}}

    for members in ({"a": Clean(), "b": Attacked()}, {"b": Attacked(), "a": Clean()}):
        with pytest.raises(Refusal, match="which both decide the objective of a step: add the one") as refusal:
            RecipeStack(members)
        assert refusal.value.reason == "conflict"
    stack = RecipeStack({"a": Clean(), "b": Attacked(), "pgd_at": registry.build("recipe", "pgd_at")})
    assert set(stack.names) == {"a", "b", "pgd_at", "pgd"}


@pytest.mark.parametrize("wrong", ["attack", ["attack"], ("attack",), {1}])
def test_capabilities_are_sets_of_names(wrong: Any) -> None:
    class Mine(Recipe):
        needs = wrong

    with pytest.raises(UserError, match=r"mine.needs = .*: it has to be a set of names, such as frozenset\(\{'attack'"):
        RecipeStack({"mine": Mine()})


def test_objects_keep_the_bounds_of_their_types() -> None:
    trades = registry.build("recipe", "trades")
    trades.beta = -1.0
    with pytest.raises(UserError, match="trades.beta=-1.0 has to be 0 or more"):
        RecipeStack([trades])


def test_a_hook_with_a_slip_of_the_pen_is_named() -> None:
    class Mine(Recipe):
        def penality(self, outcome: Outcome, batch: Batch, step: Step) -> None: ...

    class Helped(Recipe):
        def weight(self, loss: float) -> float:
            return loss

    with pytest.raises(UserError, match="mine has a method 'penality', which nobody calls. Did you mean 'penalty'?"):
        RecipeStack({"mine": Mine()})
    assert RecipeStack({"mine": Helped()}).names == ("mine",)


def test_a_recipe_is_a_module() -> None:
    class Mine(Recipe):
        def __init__(self) -> None:
            pass

    with pytest.raises(UserError, match=r"mine does not call super\(\).__init__\(\) in its own __init__"):
        RecipeStack({"mine": Mine()})


def test_an_argument_that_is_not_kept_is_refused() -> None:
    class Mine(Recipe):
        def __init__(self, strength: float = 1.0) -> None:
            super().__init__()
            self.s = strength

    with pytest.raises(UserError, match="Mine does not keep its argument 'strength': write self.strength = strength"):
        RecipeStack({"mine": Mine()})
