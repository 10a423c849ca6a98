"""Logit adjustment against its formula written out again."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import Batch, RecipeStack, Refusal, Step, Task
from poise.models.classifier import Classifier
from poise_recipes import ClassBalanced, LogitAdjustment, Trades

COUNTS = [50, 8, 2, 0]


def network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Linear(5, 4).double(), nn.Identity())


def adjusting(model: Classifier, tau: float, counts: list[int]) -> RecipeStack:
    stack = RecipeStack([LogitAdjustment(tau)])
    stack.setup(Task(len(counts), class_counts=torch.tensor(counts)), model)
    return stack


def batch(soft: bool) -> Batch:
    g = torch.Generator().manual_seed(1)
    made = Batch.of(torch.rand(6, 5, generator=g, dtype=torch.float64), torch.arange(6) % 4, num_classes=4)
    return made.replace(target=torch.rand(6, 4, generator=g, dtype=torch.float64).softmax(1)) if soft else made


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_is_that_of_the_pairwise_margins(tau: float, soft: bool) -> None:
    model, b = network(), batch(soft)
    counts = [max(n, 1) for n in COUNTS]
    expected = []
    for z, t in zip(model(b.x).tolist(), b.target.tolist(), strict=True):
        of_class = [
            math.log(1 + sum((counts[k] / counts[y]) ** tau * math.exp(z[k] - z[y]) for k in range(4) if k != y))
            for y in range(4)
        ]
        expected.append(sum(share * loss for share, loss in zip(t, of_class, strict=True)))
    stack = adjusting(model, tau, COUNTS)
    loss = stack.objective(b, Step(model, stack)).loss
    torch.testing.assert_close(loss, torch.tensor(expected).double(), rtol=0, atol=1e-6)


@given(n=st.integers(1, 10_000), tau=st.floats(0, 5))
@settings(max_examples=30, deadline=None)
def test_classes_of_one_size_change_nothing(n: int, tau: float) -> None:
    model, b = network(), batch(soft=True)
    stack = adjusting(model, tau, [n] * 4)
    plain = RecipeStack()
    torch.testing.assert_close(stack.objective(b, Step(model, stack)).loss, plain.objective(b, Step(model, plain)).loss)


def test_predictions_and_attacks_see_the_raw_logits() -> None:
    model, b = network(), batch(soft=False)
    stack = RecipeStack([Trades(), LogitAdjustment()])
    stack.setup(Task(4, class_counts=torch.tensor(COUNTS)), model)
    step, plain = Step(model, stack), RecipeStack([Trades()])
    torch.testing.assert_close(stack.forward(b.x, b, step).logits, model(b.x))
    attacked = b.replace(x_adv=b.x + 0.1)
    torch.testing.assert_close(step.inner(b)(attacked.attacked), plain.inner(b, step)(attacked.attacked))
    outcome, without = stack.objective(attacked, step), plain.objective(attacked, Step(model, plain))
    torch.testing.assert_close(outcome.terms["kl"], without.terms["kl"])
    assert not torch.allclose(outcome.terms["label_loss"], without.terms["label_loss"])


def test_classes_are_not_made_up_for_twice() -> None:
    with pytest.raises(Refusal, match="logit_adjustment cannot train with class_balanced|class_balanced cannot train"):
        RecipeStack([LogitAdjustment(), ClassBalanced()])
