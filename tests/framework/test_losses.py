import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from poise.losses import kl_divergence, soft_cross_entropy

seeds = st.integers(0, 2**31 - 1)


def draw(seed: int, rows: int = 5, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second, third = torch.randn(3, rows, classes, generator=generator, dtype=torch.float64) * 4
    return first, second, third.softmax(-1)


def naive_softmax(row: Tensor) -> list[float]:
    shifted = [math.exp(float(z) - float(row.max())) for z in row]
    return [s / sum(shifted) for s in shifted]


@given(seeds)
def test_soft_cross_entropy_equals_the_sum_written_out(seed: int) -> None:
    logits, _, target = draw(seed)
    expected = [
        -sum(float(t) * math.log(p) for t, p in zip(ts, naive_softmax(row), strict=True))
        for row, ts in zip(logits, target, strict=True)
    ]
    np.testing.assert_allclose(soft_cross_entropy(logits, target), expected, rtol=1e-12)


@given(seeds)
def test_kl_equals_the_sum_written_out(seed: int) -> None:
    p_logits, q_logits, _ = draw(seed)
    expected = [
        sum(p * math.log(p / q) for p, q in zip(naive_softmax(a), naive_softmax(b), strict=True))
        for a, b in zip(p_logits, q_logits, strict=True)
    ]
    np.testing.assert_allclose(kl_divergence(p_logits, q_logits), expected, rtol=1e-9, atol=1e-14)


def test_one_hot_targets_give_the_usual_cross_entropy() -> None:
    logits, _, _ = draw(0)
    label = torch.tensor([0, 1, 2, 3, 0])
    expected = F.cross_entropy(logits, label, reduction="none")
    torch.testing.assert_close(soft_cross_entropy(logits, F.one_hot(label, 4).double()), expected)


@given(seeds)
def test_cross_entropy_is_entropy_plus_kl(seed: int) -> None:
    p_logits, q_logits, _ = draw(seed)
    p = p_logits.softmax(-1)
    excess = soft_cross_entropy(q_logits, p) - soft_cross_entropy(p_logits, p)
    torch.testing.assert_close(kl_divergence(p_logits, q_logits), excess, rtol=1e-9, atol=1e-12)


def test_gradients_reach_logits_and_target() -> None:
    p_logits, q_logits, target = (t.requires_grad_() for t in draw(1))
    assert torch.autograd.gradcheck(soft_cross_entropy, (p_logits, target))
    assert torch.autograd.gradcheck(kl_divergence, (p_logits, q_logits))


def test_masked_classes_give_no_nan() -> None:
    logits = torch.tensor([[1.0, -math.inf, 0.0]], requires_grad=True)
    target = torch.tensor([[0.5, 0.0, 0.5]])
    loss = soft_cross_entropy(logits, target) + kl_divergence(logits, logits.detach() * 2)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1] == 0


def test_a_masked_class_with_a_share_in_the_target_costs_infinitely_much() -> None:
    logits = torch.tensor([[1.0, -math.inf]])
    assert soft_cross_entropy(logits, torch.tensor([[0.5, 0.5]])).item() == math.inf
    assert kl_divergence(torch.zeros(1, 2), logits).item() == math.inf
    assert kl_divergence(logits, torch.zeros(1, 2)).item() == pytest.approx(math.log(2))
