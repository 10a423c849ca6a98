"""Mean probabilities beside frequencies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacked import CLASSES, assert_same, batch, network
from poise import Batch, Outcome, RecipeStack, Step
from poise.models.classifier import Output
from poise_recipes import MDCA, Mixup, Trades


def penalty(logits: torch.Tensor, target: torch.Tensor) -> float:
    b = Batch.of(logits, torch.zeros(len(logits), dtype=torch.long), logits.shape[1]).replace(target=target)
    return float(MDCA().penalty(Outcome(logits.sum(1), clean=Output(logits, None)), b, Step(network())))


@pytest.mark.parametrize("soft", [False, True])
def test_the_penalty_is_the_formula_over_attacked_predictions(soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack, host = RecipeStack([Trades(), MDCA(0.7)]), RecipeStack([Trades()])
    p = torch.exp(model(b.attacked)) / torch.exp(model(b.attacked)).sum(1, keepdim=True)
    gaps = [(p[:, c].sum() - b.target[:, c].sum()).abs() / len(b) for c in range(CLASSES)]
    expected = host.loss(b, Step(model, host))() + 0.7 * sum(gaps) / CLASSES
    assert_same(model, stack.loss(b, Step(model, stack))(), expected)


@given(st.integers(0, 999), st.integers(1, 6), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_a_batch_whose_margins_match_costs_nothing(seed: int, size: int, classes: int) -> None:
    keyed = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, classes, generator=keyed, dtype=torch.float64)
    matched = logits.softmax(1)[torch.randperm(size, generator=keyed)]
    assert penalty(logits, matched) == pytest.approx(0, abs=1e-12)
    one = torch.eye(classes, dtype=torch.float64)[:1].expand(size, -1)
    assert 0 < penalty(logits, one) <= 2 / classes


def test_sure_predictions_of_as_many_of_each_class_match_whomever_they_are_of() -> None:
    target = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    assert penalty(100 * target.roll(1, 0), target) == pytest.approx(0, abs=1e-12)
    assert penalty(100 * target[:1].expand(6, -1), target) == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)


def test_mixed_examples_count_by_their_shares() -> None:
    model = network()
    b = Mixup().mix(batch(), Step(model))
    assert 0 < float(b.target[0].max()) < 1
    found = penalty(model(b.x).detach(), b.target)
    margins = (model(b.x).softmax(1).mean(0) - b.target.mean(0)).abs().mean()
    assert found == pytest.approx(float(margins.detach()), abs=1e-12)
