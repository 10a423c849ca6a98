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
