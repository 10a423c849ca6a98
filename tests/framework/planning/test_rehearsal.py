"""A rehearsed step is that of the run, takes no memory, and refuses what a run refuses."""

import copy
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from contracts import kit
from poise import registry
from poise.batch import Batch, Outcome
from poise.config import compose
from poise.config.planning import parse_plan
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.planning.main import planned, splits_of
from poise.planning.nowhere import nowhere
from poise.planning.rehearsal import Rehearsal, rehearse
from poise.recipe import Recipe, Task
from poise.rules import Refusal
from poise.step import Step

SMALL: dict[str, Any] = {"trainer.batch_size": 16, "trainer.max_epochs": 2}


def _rehearsed(**values: Any) -> Rehearsal:
    config = compose({**SMALL, **values})
    return rehearse(config, kit.splits())


def test_every_recipe_sends_what_it_declares() -> None:
    for name, record in registry.records("recipe").items():
        if any(need.startswith(("table:", "layer:")) for need in record.needs):
            continue  # of a file, or of a model made from files
        names = kit.with_partners(name)
        few = {f"recipe.{one}.steps": 1 for one in names if one == "pgd"}
        found = _rehearsed(recipe=",".join(names), **few, **{"trainer.devices": 2, "trainer.block": 8})
        assert len(found.collectives) == kit.module(names).stack.collectives(), name


def test_nothing_of_the_models_size_is_allocated() -> None:
    config = compose({**SMALL, "model": "mlp", "model.width": 8000, "optimizer": "adamw", "recipe": "ema"})
    splits = kit.splits()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        found = rehearse(config, splits)
    assert found.sizes.gradients > 2e8
    assert found.sizes.optimizer == pytest.approx(2 * found.sizes.gradients, rel=1e-3)
    assert found.sizes.recipes == pytest.approx(found.sizes.gradients, rel=1e-3)
    given = [event.nbytes() for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert max(given, default=0) < 1e6


def test_frozen_parts_have_no_gradients_and_accumulation_makes_smaller_steps() -> None:
    whole, frozen = _rehearsed(), _rehearsed(**{"model.freeze": "backbone"})
    assert frozen.sizes.gradients + frozen.sizes.frozen == whole.sizes.gradients
    assert frozen.peaks.backward < whole.peaks.backward / 2
    parts = _rehearsed(**{"trainer.accumulate": 2, "trainer.block": 8})
    assert (parts.rows, parts.steps) == (whole.rows // 2, whole.steps)


def test_steps_are_counted_as_the_run_takes_them() -> None:
    steps = len(kit.splits().train) // 16
    assert _rehearsed().steps == 2 * steps
    assert _rehearsed(**{"trainer.max_steps": 3}).steps == 3
    assert _rehearsed(recipe="class_balanced_sampling").steps == 2 * steps


def test_validation_attacks_where_the_stack_does() -> None:
    plain, attacked = (sum(one.flops for one in _rehearsed(recipe=name).validation) for name in ("plain", "fgsm_rs"))
    assert attacked > 20 * plain


def test_published_weights_are_not_fetched() -> None:
    found = _rehearsed(model="timm/test_resnet", **{"model.pretrained": True})
    assert found.sizes.gradients > 0


def test_a_stack_that_the_data_refuse_is_refused() -> None:
    plan = parse_plan(["recipe=group_dro", "shape=1,8,8", "classes=2", "examples=500"])
    with pytest.raises(Refusal, match="group_dro needs `groups`"):
        planned(plan)
    plan = parse_plan(["recipe=group_dro", "shape=1,8,8", "classes=2", "examples=500", "groups=3"])
    assert len(splits_of(plan).train) == 500
    assert "> one process" in planned(plan)


def test_one_group_is_planned_as_it_is_trained() -> None:
    plan = parse_plan(["recipe=group_dro", "model=mlp", "shape=1,8,8", "classes=10", "examples=1000", "groups=1"])
    assert "1 backward to the weights" in planned(plan)


class Keeps(Recipe):
    """Keeps a tensor from its constructor and a number from its setup."""

    table: torch.Tensor
    number: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(3))

    def setup(self, task: Task, model: Classifier) -> None:
        self.register_buffer("number", torch.tensor(2.0))

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> torch.Tensor:
        return self.number * self.table[:1] * torch.ones_like(outcome.loss)


def test_recipes_that_hold_values_are_copied_without_harm() -> None:
    found = _rehearsed(recipe=f"{__name__}:Keeps")
    assert found.sizes.recipes == 16
    mode = FakeTensorMode()
    with nowhere(mode):
        held = [torch.ones(3), torch.nn.Parameter(torch.ones(2)), torch.tensor(1.0)]
        copied, first = copy.deepcopy((held, held[0]))
    assert first is copied[0]
    assert [isinstance(one, FakeTensor) and one.fake_mode is mode for one in copied] == 3 * [True]
    assert [one.requires_grad for one in copied] == [False, True, False]


def test_a_batch_that_the_data_do_not_fill_is_refused_before_its_step_is_rehearsed() -> None:
    with pytest.raises(UserError, match="fewer than batch_size=1048576: lower trainer.batch_size"):
        _rehearsed(recipe="trades", **{"trainer.batch_size": 2**20})


class Looks(torch.nn.Module):
    """Decides by the values of its inputs; or makes shapes of them.

    Args:
        shapes: whether it does the latter.
    """

    def __init__(self, shapes: bool = False) -> None:
        super().__init__()
        self.shapes = shapes
        self.inner = torch.nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.inner(x.flatten(1)) * (2.0 if float(x.detach().sum()) > 0 else 1.0)
        return rows * len(rows[rows > 0]) if self.shapes else rows


def test_who_looks_at_values_finds_zeros_and_shapes_of_them_are_refused_in_a_line() -> None:
    assert _rehearsed(model=f"{__name__}:Looks").sizes.gradients > 0
    with pytest.raises(UserError, match="depends on the values of tensors"):
        _rehearsed(model=f"{__name__}:Looks", **{"model.shapes": True})
