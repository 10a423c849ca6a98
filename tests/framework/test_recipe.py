import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise.batch import Batch
from poise.recipe import Passes, Recipe, Task
from poise.registry.hooks import HOOKS
from poise.step import Step

counts = st.integers(0, 100)
passes = st.builds(Passes, counts, counts, counts, counts, counts)


def batch() -> Batch:
    return Batch.of(torch.rand(4, 5), torch.tensor([0, 1, 2, 1]), num_classes=3)


@settings(deadline=None, max_examples=50)
@given(passes, passes, passes)
def test_passes_add_up(a: Passes, b: Passes, c: Passes) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Passes() == a
    assert (a + b).forwards == a.forwards + b.forwards
    assert (a + b).loss_evaluations == a.loss_evaluations + b.loss_evaluations
    assert (a + b).inner == a.inner + b.inner


def test_a_recipe_has_every_hook_and_each_does_nothing() -> None:
    recipe, rows, step = Recipe(), batch(), Step(nn.Linear(5, 3))
    assert all(callable(getattr(recipe, hook)) for hook in HOOKS)
    task = Task(num_classes=3, num_train=10)
    recipe.setup(task, step.model)
    assert recipe.passes() == Passes()
    assert recipe.head(5, 3) is None
    assert recipe.sample_weights(task, 0) is None
    assert recipe.mix(rows, step) is rows
    assert recipe.attack(rows, step) is rows
    assert recipe.perturb_weights(dict, step) is None
    logits, target = recipe.adjust(rows.target, rows.target, rows, step)
    assert logits is target is rows.target
    outcome = recipe.objective(rows, step)
    assert recipe.weigh(outcome, rows, step) is None
    assert recipe.penalty(outcome, rows, step) is None
    assert recipe.lr_factor(step) == 1.0
    assert recipe.eval_weights() is None
    assert recipe.after_fit(step) is None
    recipe.on_epoch_start(step)
    recipe.on_step_end(rows, step)
    recipe.on_epoch_trained(step)
    recipe.on_epoch_end(step, {})
    assert not list(recipe.parameters())
    assert not list(recipe.buffers())


def test_without_a_recipe_the_loss_is_cross_entropy_on_the_input() -> None:
    recipe, rows, step = Recipe(), batch(), Step(nn.Linear(5, 3))
    expected = nn.functional.cross_entropy(step.model(rows.x), rows.label, reduction="none")
    outcome = recipe.objective(rows, step)
    torch.testing.assert_close(outcome.loss, expected)
    torch.testing.assert_close(recipe.inner(rows, step)(rows.x), expected)
    torch.testing.assert_close(recipe.criterion(step.model(rows.x), rows.target, rows, step), expected)
    assert outcome.clean is not None
    assert outcome.adv is None


def test_transforms_change_nothing_by_default() -> None:
    h = torch.rand(4, 2)
    assert Recipe().transform("input", h, batch(), Step(nn.Linear(5, 3))) is h
