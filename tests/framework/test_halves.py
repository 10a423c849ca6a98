import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.errors import UserError
from poise.halves import checkerboards, half_in_noise

SIGMA = 0.3


@settings(max_examples=20, deadline=None)
@given(height=st.integers(2, 7), width=st.integers(2, 7), channels=st.integers(1, 3))
def test_every_pixel_is_in_one_half_and_neighbours_in_different_ones(height: int, width: int, channels: int) -> None:
    left, right = checkerboards(torch.rand(channels, height, width))
    assert torch.equal(left + right, torch.ones(height, width))
    assert (left[1:] != left[:-1]).all()
    assert (left[:, 1:] != left[:, :-1]).all()


def test_what_is_hidden_plays_no_part_and_is_left_at_zero() -> None:
    x, noise = torch.rand(3, 2, 6, 5), SIGMA * torch.randn(3, 2, 6, 5)
    for mask in checkerboards(x):
        seen = half_in_noise(x, noise, mask)
        other = half_in_noise(x + 7 * (1 - mask), noise - 5 * (1 - mask), mask)
        assert torch.equal(seen, other)
        assert (seen[..., mask == 0] == 0).all()
        assert (seen[..., mask == 1] != 0).all()


def test_maxima_of_squares_are_added_to_noisy_pixels() -> None:
    x, noise = torch.rand(1, 1, 4, 4), SIGMA * torch.randn(1, 1, 4, 4)
    left, _ = checkerboards(x)
    half = ((x + noise) * left)[0, 0]
    seen = half_in_noise(x, noise, left)[0, 0]
    for row, column in ((0, 0), (1, 1), (2, 0), (3, 3)):
        square = half[row // 2 * 2 : row // 2 * 2 + 2, column // 2 * 2 : column // 2 * 2 + 2]
        assert seen[row, column] == half[row, column] + square.max()


@pytest.mark.parametrize("shape", [(5,), (4, 5), (1, 1, 8)])
def test_inputs_without_halves_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="have no halves: pictures of 2x2 pixels or more do"):
        checkerboards(torch.rand(shape))
