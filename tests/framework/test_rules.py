from pathlib import Path

import pytest

from poise import registry
from poise.config import ConfigErrors, compose, parse
from poise.ground import Ground
from poise.recipe import Task
from poise.rules import RUN_PROVIDES, declaration_of
from poise.stack import RecipeStack
from small_runs import network, splits


def refusals(*arguments: str) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        parse(arguments)
    return list(raised.value.mistakes)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["recipe=pgd_at,trades"], "recipe=pgd_at,trades: pgd_at and trades both decide the objective of a step: keep"),
        (["recipe=mixup,pgd"], "recipe=mixup,pgd: pgd attacks every batch, and no member trains on what it finds"),
        (["recipe=awp@a,awp@b"], "recipe=awp@a,awp@b: a and b both decide the perturb weights of a step"),
        (["recipe=gairat,free_at"], "gairat needs `kappa`: add a recipe (pgd) that provides `kappa`"),
        (["recipe=tiny_misclassified,tiny_upweight"], "needs `table:errors`: give tables.errors="),
        (["recipe=awp", "strategy=deepspeed_zero3"], "awp needs `whole_weights`: use a strategy that keeps whole"),
        (["recipe=free_at", "trainer.accumulate=2"], "free_at needs `whole_batch`: train without accumulation"),
        (["recipe=smooth_adv,gaussian_noise"], "smooth_adv cannot train with gaussian_noise, which makes `noise`"),
    ],
)
def test_a_stack_that_contradicts_itself_is_a_mistake_of_the_config(arguments: list[str], line: str) -> None:
    assert any(line in mistake for mistake in refusals(*arguments))


def test_contradictions_stand_beside_all_other_mistakes() -> None:
    found = refusals("recipe=pgd_at,trades", "recipe.trades.bta=1", "seed=x")
    assert len(found) == 3


def test_what_the_data_decide_is_left_to_the_run() -> None:
    assert list(parse(["recipe=group_dro,tiny_dann"]).recipe) == ["group_dro", "tiny_dann"]
    assert list(parse(["recipe=tiny_upweight", "tables.errors=x"]).recipe) == ["tiny_upweight"]


def test_records_declare_what_objects_do() -> None:
    from poise.assembly import declarations

    for name, record in registry.records("recipe").items():
        params = {p.name: 1 for p in record.parameters if p.required}
        made = registry.build("recipe", name, **params)
        assert declaration_of(record) == declarations({name: made})[name]


def test_a_run_provides_what_the_rules_say_it_may() -> None:
    data = splits()
    from poise.models.classifier import Classifier

    ground = Ground(Task(data.num_classes), Classifier.wrap(network(), data.num_classes), data)
    known = {*ground.settled(), "index", "groups", "whole_batch", "whole_weights"}
    assert known == RUN_PROVIDES


@pytest.fixture
def undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "undecided_member.py").write_text(
        "from poise import Recipe\n\n\nclass Undecided(Recipe):\n"
        "    def __init__(self, kind: str = 'kappa') -> None:\n        super().__init__()\n        self.kind = kind\n\n"
        "    @property\n    def provides(self):\n        return frozenset({self.kind})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry.refresh()
    return "undecided_member:Undecided"


def test_a_member_that_decides_for_each_instance_is_asked_later(undecided: str) -> None:
    config = parse([f"recipe={undecided},gairat"])
    members = {alias: registry.build("recipe", e.name, **e.params) for alias, e in config.recipe.items()}
    RecipeStack(members).require(RUN_PROVIDES)
    assert compose({"recipe": [undecided, "gairat"]}) == config


def test_members_that_exclude_each_other_are_said_once() -> None:
    (line,) = refusals("recipe=class_balanced,logit_adjustment")
    assert "class_balanced cannot train with logit_adjustment, which makes `class_prior`: keep one of them" in line
