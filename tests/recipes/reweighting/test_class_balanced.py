"""Class weights by the effective number of samples."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from poise import Batch, Outcome, RecipeStack, Refusal, Step, Task
from poise.models.classifier import Classifier
from poise_recipes import ClassBalanced, ClassBalancedSampling, Mixup

MODEL = Classifier(nn.Linear(2, 2), nn.Identity())
COUNTS = [5000, 300, 12, 1]


def balanced(counts: list[int], beta: float = 0.999) -> RecipeStack:
    stack = RecipeStack([ClassBalanced(beta)])
    stack.setup(Task(len(counts), class_counts=torch.tensor(counts)), MODEL)
    return stack


def batch(label: list[int], classes: int = len(COUNTS)) -> Batch:
    rows = torch.arange(len(label))
    return Batch.of(torch.rand(len(label), 2).double(), torch.tensor(label), classes, index=rows)


def weights(stack: RecipeStack, b: Batch) -> Tensor:
    return stack.weights(Outcome(torch.ones(len(b)).double()), b, Step(MODEL, stack))


def test_weights_are_those_of_the_paper_but_for_their_scale() -> None:
    label = [0, 0, 1, 3, 2, 0]
    published = 0.001 / (1 - np.power(0.999, COUNTS))
    published = published / published.sum() * len(COUNTS)
    expected = published[label] / published[label].mean()
    np.testing.assert_allclose(weights(balanced(COUNTS), batch(label)), expected, rtol=1e-9)


def test_the_loss_is_the_weighted_cross_entropy_of_pytorch() -> None:
    b, logits = batch([0, 3, 1, 0, 2]), torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double()
    class_weight = torch.tensor(0.001 / (1 - np.power(0.999, COUNTS)))
    plain = nn.functional.cross_entropy(logits, b.label, reduction="none")
    reference = nn.functional.cross_entropy(logits, b.label, weight=class_weight)
    torch.testing.assert_close((weights(balanced(COUNTS), b) * plain).mean(), reference)


@given(label=st.lists(st.integers(0, 3), min_size=1, max_size=20), n=st.integers(1, 1000), beta=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_classes_of_one_size_weigh_alike(label: list[int], n: int, beta: float) -> None:
    torch.testing.assert_close(weights(balanced([n] * 4, beta), batch(label)), torch.ones(len(label)).double())


def test_a_mixed_row_weighs_the_mean_of_its_parents() -> None:
    b = batch([0, 1, 2, 3] * 4)
    mixed = Mixup().mix(b, Step(MODEL))
    table = torch.tensor(0.001 / (1 - np.power(0.999, COUNTS)))[b.label]
    by_parents = mixed.lookup(table)
    torch.testing.assert_close(weights(balanced(COUNTS), mixed), by_parents / by_parents.mean())


def test_a_class_without_training_examples_breaks_nothing() -> None:
    found = weights(balanced([10, 0, 5]), batch([0, 2, 0], classes=3))
    assert found.isfinite().all()
    assert (found > 0).all()


def test_classes_are_not_made_up_for_twice() -> None:
    with pytest.raises(Refusal, match="class_balanced_sampling, which makes `class_prior`"):
        RecipeStack([ClassBalanced(), ClassBalancedSampling()])
