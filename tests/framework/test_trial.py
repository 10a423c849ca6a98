from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poise.batch import Batch, Outcome
from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.recipe import Recipe
from poise.rules import Refusal
from poise.stack import RecipeStack
from poise.step import Step
from poise.trial import refuse_unheard


def batch() -> Batch:
    return Batch.of(torch.rand(4, 5), torch.tensor([0, 1, 2, 1]), num_classes=3, index=torch.arange(4))


def model() -> Classifier:
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout()), nn.Linear(4, 3))


def tried(stack: RecipeStack, network: Classifier | None = None, rows: Batch | None = None) -> None:
    network = network or model()
    refuse_unheard(stack, network, rows or batch(), Step(network, stack))


class Criterion(Recipe):
    def criterion(self, logits, target, batch, step):  # type: ignore[no-untyped-def]
        return (logits - target).square().sum(1)


class Inner(Recipe):
    def inner(self, batch, step):  # type: ignore[no-untyped-def]
        return lambda x: step.model(x).sum(1)


class Adjust(Recipe):
    def adjust(self, logits, target, batch, step):  # type: ignore[no-untyped-def]
        return logits, target


class Transform(Recipe):
    def transform(self, layer, h, batch, step):  # type: ignore[no-untyped-def]
        return h


class OwnLabelTerm(Recipe):
    """Uses what was adjusted, and no criterion."""

    def objective(self, batch: Batch, step: Step) -> Outcome:
        clean = step.forward(batch.x, batch)
        logits, target = step.adjusted(clean.logits, batch)
        return Outcome(-(target * logits).sum(1), clean=clean)


class Bare(Recipe):
    """Passes by the stack."""

    def objective(self, batch: Batch, step: Step) -> Outcome:
        return Outcome(step.loss(step.model(batch.x), batch), clean=step.model.run(batch.x))


class OwnAttack(Recipe):
    provides = frozenset({"attack"})

    def attack(self, batch: Batch, step: Step) -> Batch:
        return batch.replace(x_adv=batch.x + 0.1)


class NeedsAttack(Recipe):
    needs = frozenset({"attack"})

    def on_epoch_start(self, step: Step) -> None: ...


class Undeclared(Recipe):
    def attack(self, batch: Batch, step: Step) -> Batch:
        return batch.replace(x_adv=batch.x + 0.1)


@pytest.mark.parametrize(
    ("attacker", "way_out"),
    [(OwnAttack(), r"add one that does \(.*trades.*\)"), (Undeclared(), "declare what it provides")],
)
def test_an_attack_that_nobody_trains_on_is_refused(attacker: Recipe, way_out: str) -> None:
    with pytest.raises(Refusal, match=f"random attacks every batch, and no member .*: {way_out}") as caught:
        tried(RecipeStack({"random": attacker}))
    assert caught.value.reason == "attack not used"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"focal": Criterion(), "mart": OwnLabelTerm()},
            "the criterion of focal would never be called in this stack: the objective of mart does not use it; "
            "leave out focal or mart",
        ),
        (
            {"noise": Transform(), "bare": Bare()},
            "the transform of noise would never be called in this stack: the objective of bare does not use it; "
            "leave out noise or bare",
        ),
        (
            {"kl": Inner(), "random": OwnAttack(), "user": NeedsAttack()},
            "the inner of kl would never be called in this stack: the attack of random does not use it; "
            "leave out kl or random",
        ),
        (
            {"kl": Inner()},
            "the inner of kl would never be called in this stack: no member has an attack that uses it; "
            "add one, or leave out kl",
        ),
    ],
)
def test_a_hook_that_nobody_calls_is_refused(members: dict[str, Recipe], message: str) -> None:
    with pytest.raises(Refusal) as caught:
        tried(RecipeStack(members))
    assert (caught.value.reason, str(caught.value)) == ("never called", message)


def test_hooks_that_are_called_pass() -> None:
    tried(RecipeStack())
    tried(RecipeStack([Criterion(), Adjust(), Transform(), OwnAttack(), NeedsAttack()]))
    tried(RecipeStack([OwnLabelTerm(), Adjust(), Transform()]))


class Remembers(Recipe):
    """Changes all that it can: its state, the model's, the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(()))

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        self.seen += 1
        torch.rand(3)
        return torch.ones(len(batch))

    def perturb_weights(self, gradient, step):  # type: ignore[no-untyped-def]
        return gradient()

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        with torch.no_grad():
            next(iter(step.model.parameters())).mul_(2)
        return self.weight


def test_the_trial_leaves_no_trace() -> None:
    stack, network, rows = RecipeStack([Remembers()]), model().eval(), batch()
    before = {n: v.clone() for module in (stack, network) for n, v in module.state_dict().items()}
    x, state = rows.x.clone(), torch.random.get_rng_state()
    tried(stack, network, rows)
    after = {n: v for module in (stack, network) for n, v in module.state_dict().items()}
    assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(x, rows.x)
    assert not network.training
    assert all(p.grad is None for module in (stack, network) for p in module.parameters())


def test_the_trial_works_without_gradients_around_it() -> None:
    with torch.no_grad():
        tried(RecipeStack([Remembers()]))


class Idle(Recipe):
    pass


def test_a_recipe_without_a_hook_is_refused() -> None:
    with pytest.raises(Refusal, match="idle has no hook of its own, so it would change nothing"):
        tried(RecipeStack({"idle": Idle()}))


def returning(hook: str, given: Any) -> Recipe:
    """A recipe whose hook returns something."""
    return type("Mine", (Recipe,), {hook: lambda self, *arguments: given})()


@pytest.mark.parametrize(
    ("hook", "given", "message"),
    [
        ("mix", torch.zeros(3), r"mine.mix returned a tensor \[3\]: it has to return a Batch"),
        ("objective", 3, r"mine.objective returned a int: .* an Outcome with a loss for each example, \[\d+\]"),
        ("objective", Outcome(torch.zeros(99)), r"mine.objective returned an Outcome with a loss \[99\]: it has to"),
        ("criterion", torch.zeros(2, 3), r"mine.criterion returned a tensor \[2, 3\]: .* for each example, \[\d+\]"),
        ("weigh", torch.ones(3), r"mine.weigh returned a tensor \[3\]: .* a weight for each example, \[\d+\], or None"),
        ("penalty", torch.zeros(7), r"mine.penalty returned a tensor \[7\]: it has to return a scalar tensor, or None"),
        ("adjust", torch.zeros(1), r"mine.adjust returned a tensor \[1\]: it has to return logits and target, each"),
        ("transform", None, "mine.transform returned None: it has to return a tensor of"),
    ],
)
def test_what_a_hook_returns_is_looked_at_before_training(hook: str, given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tried(RecipeStack({"mine": returning(hook, given)}))
