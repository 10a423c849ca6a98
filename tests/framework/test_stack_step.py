"""What a stack does in a step: weights, perturbed weights, and hooks in company."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from poise.batch import Batch
from poise.distributed import Ranks
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.stack import RecipeStack
from poise.step import Step
from stack_members import (
    CLASSES,
    ROWS,
    Absolute,
    Added,
    Objective,
    Up,
    WantsClean,
    Weights,
    batch,
    model,
    outcome,
    step,
)

# -- weights -------------------------------------------------------------------------------------------------------

positive = st.lists(st.floats(1e-3, 1e3), min_size=ROWS, max_size=ROWS).map(
    lambda w: torch.tensor(w, dtype=torch.float64)
)


@settings(deadline=None, max_examples=50)
@given(positive, positive, st.floats(1e-3, 1e3))
def test_relative_weights_average_to_one_whatever_their_scale(one: Tensor, two: Tensor, scale: float) -> None:
    stack = RecipeStack({"one": Weights(one), "two": Weights(two)})
    weights = stack.weights(outcome(), batch(), step(stack))
    assert weights is not None
    torch.testing.assert_close(weights.mean(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(weights, one * two / (one * two).mean())
    scaled = RecipeStack({"one": Weights(scale * one), "two": Weights(two)})
    torch.testing.assert_close(scaled.weights(outcome(), batch(), step(scaled)), weights)


@settings(deadline=None, max_examples=50)
@given(positive, positive)
def test_absolute_weights_are_coefficients_as_published(relative: Tensor, absolute: Tensor) -> None:
    alone = RecipeStack([Absolute(absolute)])
    torch.testing.assert_close(alone.weights(outcome(), batch(), step(alone)), absolute)
    both = RecipeStack([Weights(relative), Absolute(absolute)])
    expected = relative / relative.mean() * absolute
    torch.testing.assert_close(both.weights(outcome(), batch(), step(both)), expected)


class OfTwo(Ranks):
    """Two ranks, the other of which has weights that average to three."""

    size = 2

    def mean(self, value: Tensor) -> Tensor:
        return (value + 3) / 2


def test_relative_weights_are_scaled_over_the_global_batch() -> None:
    stack = RecipeStack([Weights(torch.ones(ROWS, dtype=torch.float64))])
    weights = stack.weights(outcome(), batch(), step(stack, ranks=OfTwo()))
    torch.testing.assert_close(weights, torch.full((ROWS,), 0.5, dtype=torch.float64))


def test_weights_that_are_all_zero_leave_no_nan_and_no_weights_leave_the_mean() -> None:
    nothing = RecipeStack([Weights(torch.zeros(ROWS))])
    assert torch.equal(nothing.weights(outcome(), batch(), step(nothing)), torch.zeros(ROWS))  # type: ignore[arg-type]
    assert RecipeStack().weights(outcome(), batch(), step(RecipeStack())) is None


def test_weights_are_taken_once_a_step_and_the_loss_is_their_mean_and_the_penalties() -> None:
    weights = Weights(torch.arange(1.0, ROWS + 1, dtype=torch.float64))
    stack = RecipeStack({"w": weights, "a": Added(0.5), "b": Added(2.0), "up": Up()})
    of = step(stack)
    loss = stack.loss(batch(), of)
    restore = stack.perturb_weights(loss, of)
    value = loss()
    assert weights.calls == 1
    assert loss.outcome is not None
    expected = (weights.weights / weights.weights.mean() * loss.outcome.loss).mean() + 2.5
    torch.testing.assert_close(value, expected)
    assert {name: float(penalty) for name, penalty in loss.penalties.items()} == {"a": 0.5, "b": 2.0}
    restore()


# -- weight perturbation -------------------------------------------------------------------------------------------


def test_weights_move_by_the_change_and_come_back_bit_equal() -> None:
    stack = RecipeStack({"up": Up(), "objective": Objective(), "added": WantsClean()})
    of = step(stack)
    before = {name: p.detach().clone() for name, p in of.model.named_parameters()}
    statistics = {name: b.clone() for name, b in of.model.named_buffers()}
    loss = stack.loss(batch(), of)
    restore = stack.perturb_weights(loss, of)
    gradient = stack.members["up"].gradient
    for name, p in of.model.named_parameters():
        assert p.grad is None
        torch.testing.assert_close(p.detach(), before[name] + 0.5 * gradient[name])  # type: ignore[index]
    assert all(torch.equal(b, statistics[name]) for name, b in of.model.named_buffers())
    loss().backward()
    restore()
    assert all(torch.equal(p, before[name]) for name, p in of.model.named_parameters())
    assert not all(torch.equal(b, statistics[name]) for name, b in of.model.named_buffers())


def test_the_gradient_is_that_of_the_whole_loss() -> None:
    of, up = step(RecipeStack()), Up()
    stack = RecipeStack({"up": up, "objective": Objective(), "clean": WantsClean()})
    stack.perturb_weights(stack.loss(batch(), of), of)()
    of.model.zero_grad()
    logits = of.model(batch().x)
    (2 * nn.functional.cross_entropy(logits, batch().label) + logits.square().mean()).backward()
    for name, p in of.model.named_parameters():
        torch.testing.assert_close(up.gradient[name], p.grad)


def test_a_recipe_that_changes_nothing_yet_leaves_the_weights() -> None:
    class Waits(Up):
        def perturb_weights(self, gradient, step):  # type: ignore[no-untyped-def]
            return None

    of = step(stack := RecipeStack([Waits()]))
    before = [p.clone() for p in of.model.parameters()]
    stack.perturb_weights(stack.loss(batch(), of), of)()
    assert all(map(torch.equal, before, of.model.parameters()))


# -- hooks in company ----------------------------------------------------------------------------------------------


def test_a_clean_pass_is_filled_in_where_one_is_needed_and_leaves_the_statistics() -> None:
    rows = batch()
    plain = RecipeStack([Objective()])
    assert plain.objective(rows, step(plain)).clean is None
    stack = RecipeStack([Objective(), WantsClean()])
    of, reference = step(stack), step(plain)
    filled = stack.objective(rows, of)
    plain.objective(rows, reference)
    assert filled.clean is not None
    assert filled.adv is not None
    torch.testing.assert_close(filled.clean.logits, filled.adv.logits)
    for (name, mine), (_, theirs) in zip(of.model.named_buffers(), reference.model.named_buffers(), strict=True):
        assert torch.equal(mine, theirs), name


class Times(Recipe):
    """Chains, multiplies and counts."""

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.heard: list[str] = []

    def mix(self, batch: Batch, step: Step) -> Batch:
        return batch.replace(x=batch.x * self.factor + 1)

    def transform(self, layer: str, h: Tensor, batch: Batch, step: Step) -> Tensor:
        return h * self.factor + 1

    def adjust(self, logits: Tensor, target: Tensor, batch: Batch, step: Step) -> tuple[Tensor, Tensor]:
        return logits * self.factor + 1, target

    def lr_factor(self, step: Step) -> float:
        return 1.0 / self.factor

    def sample_weights(self, task: Task, epoch: int) -> Tensor:
        return torch.full((task.num_train,), self.factor)

    def on_epoch_start(self, step: Step) -> None:
        self.heard.append(f"start {step.member}")

    def on_step_end(self, batch: Batch, step: Step) -> None:
        self.heard.append(f"step {step.member}")

    def on_epoch_trained(self, step: Step) -> None:
        self.heard.append(f"trained {step.member}")

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        self.heard.append(f"end {step.member} {metrics['val/accuracy']}")

    def after_fit(self, step: Step) -> Mapping[str, Tensor]:
        return {f"table_{self.factor}": torch.zeros(3)}


def test_hooks_are_chained_in_order_multiplied_and_told_each_in_the_members_name() -> None:
    two, three = Times(2), Times(3)
    stack, rows = RecipeStack({"two": two, "three": three}), batch()
    of = step(stack)

    def chained(value: Tensor) -> Tensor:
        return (value * 2 + 1) * 3 + 1

    torch.testing.assert_close(stack.mix(rows, of).x, chained(rows.x))
    torch.testing.assert_close(stack.forward(rows.x, rows, of).logits, of.model(chained(rows.x)))
    torch.testing.assert_close(stack.adjust(rows.target, rows.target, rows, of)[0], chained(rows.target))
    assert stack.lr_factor(of) == pytest.approx(1 / 6)
    assert stack.sample_weights(Task(3, 4), 0).tolist() == [6] * 4  # type: ignore[union-attr]
    stack.on_epoch_start(of)
    stack.on_step_end(rows, of)
    stack.on_epoch_trained(of)
    stack.on_epoch_end(of, {"val/accuracy": 0.5})
    assert three.heard == ["start three", "step three", "trained three", "end three 0.5"]
    assert sorted(stack.after_fit(of)) == ["table_2", "table_3"]


def test_copies_stay_copies_and_odds_make_odds() -> None:
    class Odds(Recipe):
        def sample_weights(self, task: Task, epoch: int) -> Tensor:
            return torch.full((task.num_train,), 0.5)

    task = Task(3, 4)
    assert RecipeStack({"a": Times(2), "b": Times(3)}).sample_weights(task, 0).dtype == torch.int64  # type: ignore[union-attr]
    assert RecipeStack([Times(2), Odds()]).sample_weights(task, 0).tolist() == [1.0] * 4  # type: ignore[union-attr]


def test_a_head_is_made_before_members_are_set_up() -> None:
    class Head(Recipe):
        def head(self, in_features: int, num_classes: int) -> nn.Module:
            return nn.Sequential(nn.Linear(in_features, 2), nn.Linear(2, num_classes))

    class Sees(Recipe):
        def setup(self, task: Task, model: Classifier) -> None:
            self.seen = model.head

    sees, network = Sees(), model()
    RecipeStack([sees, Head()]).setup(Task(CLASSES), network)
    assert sees.seen is network.head
    assert network.head.get_submodule("0").out_features == 2
    untouched = model()
    head = untouched.head
    RecipeStack([sees]).setup(Task(CLASSES), untouched)
    assert untouched.head is head


class OwnState(Recipe):
    per_rank: frozenset[str] = frozenset({"delta"})

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("delta", torch.arange(float(size)), persistent=False)


def test_what_differs_by_rank_comes_back_also_in_another_size() -> None:
    stack = RecipeStack({"own": OwnState(), "other": Added()})
    state = stack.rank_state()
    assert list(state) == ["own.delta"]
    stack.members["own"].delta.add_(5)  # type: ignore[operator, union-attr]
    assert state["own.delta"].tolist() == [0, 1, 2], "a copy"
    empty = RecipeStack({"own": OwnState(0)})
    empty.load_rank_state(state)
    assert empty.members["own"].delta.tolist() == [0, 1, 2]  # type: ignore[operator, union-attr]
    assert list(empty.rank_state()) == ["own.delta"]
