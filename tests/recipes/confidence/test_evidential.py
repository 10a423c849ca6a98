"""The evidential loss against torch.distributions, and what its head predicts."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.distributions import Dirichlet, kl_divergence

from attacked import CLASSES, batch
from poise import RecipeStack, Step, Task
from poise.models.classifier import Classifier
from poise.models.mlp import mlp
from poise_recipes import Evidential, LabelSmoothing
from poise_recipes.confidence.evidential import distance_to_none, expected_brier

alphas = st.lists(st.lists(st.floats(1, 1e3), min_size=CLASSES, max_size=CLASSES), min_size=1, max_size=4)


def ready(recipe: Evidential, *before: LabelSmoothing) -> tuple[RecipeStack, Classifier]:
    torch.manual_seed(0)
    model = mlp(CLASSES, (5,), width=8).double()
    stack = RecipeStack([*before, recipe])
    stack.setup(Task(CLASSES, feature_width=model.feature_width), model)
    return stack, model.double()


def reference(alpha: Tensor, target: Tensor, share: float) -> Tensor:
    """The mean loss, by the moments and the divergence that PyTorch knows."""
    known, others = Dirichlet(alpha), Dirichlet(1 + (alpha - 1) * (1 - target))
    brier = ((target - known.mean) ** 2 + known.variance).sum(1)
    return (brier + share * kl_divergence(others, Dirichlet(torch.ones_like(alpha)))).mean()


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("epoch", "share"), [(0, 0.0), (3, 0.3), (10, 1.0), (50, 1.0)])
def test_the_loss_is_the_expected_brier_score_and_the_evidence_for_others(epoch: int, share: float, soft: bool) -> None:
    stack, model = ready(Evidential(weight=1.0, anneal=10))
    b = batch(soft=soft)
    found = stack.loss(b, Step(model, stack, epoch=epoch))()
    torch.testing.assert_close(found, reference(model(b.x).exp(), b.target, share), rtol=0, atol=1e-12)


def test_the_last_term_may_count_from_the_start() -> None:
    stack, model = ready(Evidential(weight=0.3, anneal=0))
    b = batch()
    torch.testing.assert_close(
        stack.loss(b, Step(model, stack))(), reference(model(b.x).exp(), b.target, 0.3), rtol=0, atol=1e-12
    )


def test_softmax_of_the_head_is_the_mean_of_the_distribution_and_evidence_is_not_negative() -> None:
    _, model = ready(Evidential())
    x = batch().x
    z = model.run(x).features @ model.head[0].weight.T + model.head[0].bias  # type: ignore[index, operator]
    alpha = 1 + z.exp()
    torch.testing.assert_close(model(x).softmax(1), alpha / alpha.sum(1, keepdim=True))
    torch.testing.assert_close(model(x).logsumexp(1).exp(), alpha.sum(1))
    assert (model(x) > 0).all()


def test_smoothed_targets_are_taken_as_they_are() -> None:
    stack, model = ready(Evidential(weight=1.0), LabelSmoothing(0.2))
    b = batch()
    expected = reference(model(b.x).exp(), 0.8 * b.target + 0.2 / CLASSES, 0.5)
    torch.testing.assert_close(stack.loss(b, Step(model, stack, epoch=5))(), expected, rtol=0, atol=1e-12)


@given(alphas)
@settings(max_examples=60, deadline=None)
def test_evidence_is_at_a_distance_from_none(values: list[list[float]]) -> None:
    alpha = torch.tensor(values, dtype=torch.float64)
    found = distance_to_none(alpha)
    torch.testing.assert_close(found, kl_divergence(Dirichlet(alpha), Dirichlet(torch.ones_like(alpha))))
    assert (found > -1e-9).all()


def test_without_evidence_there_is_no_distance() -> None:
    assert torch.equal(distance_to_none(torch.ones(2, 5)), torch.zeros(2))


@pytest.mark.parametrize("term", [distance_to_none, lambda alpha: expected_brier(alpha, batch(soft=True).target)])
def test_slopes_are_those_of_finite_differences(term: Callable[[Tensor], Tensor]) -> None:
    keyed = torch.Generator().manual_seed(0)
    alpha = 1 + 5 * torch.rand(6, CLASSES, generator=keyed, dtype=torch.float64)
    assert gradcheck(term, alpha.requires_grad_())
