"""What is said of examples that were seen before they were measured on."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.data.dataset import Arrays
from poise.suspicion import repeated, smaller

VALUES = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@given(VALUES, VALUES)
def test_the_share_is_that_of_all_pairs(first: list[int], second: list[int]) -> None:
    a, b = np.array(first)[:, None], np.array(second)
    expected = ((a < b) + 0.5 * (a == b)).mean()
    share, _ = smaller(torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64))
    assert abs(share - expected) < 1e-12


def test_samples_of_one_distribution_are_seldom_far_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(300, 2, 100, generator=generator, dtype=torch.float64)
    errors = torch.tensor([smaller(first, second)[1] for first, second in draws])
    assert abs(float(errors.std()) - 1) < 0.1
    assert float(errors.abs().max()) < 4


def test_repeated_rows_are_counted() -> None:
    x = torch.rand(6, 3)
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    assert repeated(Arrays(x[:3], label[:3]), Arrays(x[3:], label[3:])) == ""
    assert repeated(Arrays(x[:4], label[:4]), Arrays(x[3:], label[3:])).startswith("1 of 3 test examples")
