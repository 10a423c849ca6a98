"""Mixup's pairs and what it does to a batch."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import Batch, Step
from poise_recipes import Mixup

MODEL = nn.Linear(3, 3)


def batch(n: int = 16) -> Batch:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 3, generator=g)
    return Batch.of(x, torch.arange(n) % 3, num_classes=3, index=torch.arange(n) + 100)


@given(alpha=st.floats(0.01, 20), seed=st.integers(0, 1000), block=st.sampled_from([0, 2, 4, 8]))
@settings(max_examples=60, deadline=None)
def test_a_mix_is_convex_inside_its_block_and_keeps_targets_distributions(alpha: float, seed: int, block: int) -> None:
    b = batch()
    mixed = Mixup(alpha).mix(b, Step(MODEL, seed=seed, block=block))
    partner, share = mixed.parents[:, 1] - 100, mixed.share
    assert torch.equal(mixed.parents[:, 0], b.index)
    assert (partner != torch.arange(16)).all()
    assert torch.equal(partner // (block or 16), torch.arange(16) // (block or 16))
    assert torch.equal(partner.sort().values, torch.arange(16))
    torch.testing.assert_close(share.sum(1), torch.ones(16))
    torch.testing.assert_close(mixed.x, share[:, :1] * b.x + share[:, 1:] * b.x[partner])
    torch.testing.assert_close(mixed.target, share[:, :1] * b.target + share[:, 1:] * b.target[partner])
    assert torch.equal(mixed.label, b.label)


def test_alpha_zero_mixes_nothing() -> None:
    b = batch()
    assert Mixup(0.0).mix(b, Step(MODEL)) is b


def test_shares_are_beta_distributed() -> None:
    shares = torch.cat([Mixup(0.4).mix(batch(256), Step(MODEL, global_step=k)).share[:, 0] for k in range(40)]).double()
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1))
    assert abs(shares.mean().item() - 0.5) < 0.02
    assert abs(shares.var().item() - 1 / (4 * 1.8)) < 0.01


def test_a_table_is_looked_up_at_both_parents() -> None:
    mixed = Mixup().mix(batch(), Step(MODEL))
    table = torch.rand(200, 2)
    expected = (mixed.share[:, :, None] * table[mixed.parents]).sum(1)
    torch.testing.assert_close(mixed.lookup(table), expected)
