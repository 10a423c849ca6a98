"""What the terms of the Brier score add up to."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.metrics import Brier, BrierTerms


@given(seed=st.integers(0, 2**31 - 1), size=st.integers(1, 60), bins=st.integers(1, 20))
def test_the_terms_add_up_to_the_score(seed: int, size: int, bins: int) -> None:
    keyed = torch.Generator().manual_seed(seed)
    logits, labels = 3 * torch.randn(size, 4, generator=keyed), torch.randint(4, (size,), generator=keyed)
    score, terms = Brier(), BrierTerms(4, bins)
    score.update(logits, labels)
    terms.update(logits, labels)
    named = dict(zip(BrierTerms.names, terms.compute().tolist(), strict=True))
    within = named["variance"] - named["covariance"]
    total = named["reliability"] - named["resolution"] + named["uncertainty"] + within
    assert total == pytest.approx(float(score.compute()), abs=1e-12)


def test_nothing_varies_within_bins_where_probabilities_are_the_same() -> None:
    terms = BrierTerms(3)
    terms.update(torch.tensor([[2.0, 0, 0]] * 10 + [[0.0, 0, 0]] * 10), torch.arange(20) % 3)
    assert terms.compute()[3:].tolist() == pytest.approx([0, 0], abs=1e-15)


@pytest.mark.parametrize("classes", [2, 5])
def test_balanced_classes_do_not_hide_that_probabilities_are_too_high(classes: int) -> None:
    """Each class is predicted alike often, with a confidence of 0.9, and is right in 3 of 5 cases."""
    predicted = torch.arange(classes).repeat_interleave(5)
    labels = (predicted + torch.tensor([0, 0, 0, 1, 1]).repeat(classes)) % classes
    rest = 0.1 / (classes - 1)
    logits = torch.full((len(labels), classes), rest, dtype=torch.float64).scatter(1, predicted[:, None], 0.9).log()
    terms = BrierTerms(classes)
    terms.update(logits, labels)
    expected = (0.9 - 0.6) ** 2 + (classes - 1) * (0.4 / (classes - 1) - rest) ** 2
    assert float(terms.compute()[0]) == pytest.approx(expected, abs=1e-12)


def test_resolution_is_uncertainty_where_predictions_are_sure_and_right() -> None:
    terms = BrierTerms(3)
    terms.update(1000.0 * torch.eye(3).repeat(4, 1), torch.arange(3).repeat(4))
    assert terms.compute().tolist() == pytest.approx([0, 2 / 3, 2 / 3, 0, 0], abs=1e-12)
