"""Stacks around adversarial training: losses are finite and fall."""

import math

import pytest

from contracts import kit

STEPS = 16


@pytest.mark.parametrize("names", ["trades,awp,mixup,group_dro", "mart,srat", "free_at,cutmix"])
def test_it_trains(names: str) -> None:
    made = kit.admitted(names.split(","))
    optimizer = made.optimizer([p for p in made.parameters() if p.requires_grad])
    rows = kit.record(rows=kit.BATCH)
    losses = [kit.one_step(made, rows, optimizer, number) for number in range(3, 3 + STEPS)]  # all of them late ones
    assert all(map(math.isfinite, losses))
    assert sum(losses[-4:]) < sum(losses[:4])
    assert kit.finite(made)
