"""Sizes that fit, and what is said of those that do not."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.data.blocks import check_sizes, default_block
from poise.errors import UserError


def test_the_message_word_for_word() -> None:
    with pytest.raises(UserError) as caught:
        check_sizes(128, ranks=16, accumulate=1, block=16)
    assert str(caught.value) == (
        "batch_size=128 over 16 ranks is 8 a rank, not a multiple of block=16. Fits: 1, 2, 4, 8 ranks; "
        "trainer.batch_size=256; or trainer.block=8 (other draws: another run)"
    )


def test_the_message_with_accumulation_and_without_every_way_out() -> None:
    with pytest.raises(UserError) as caught:
        check_sizes(96, ranks=2, accumulate=2, block=16)
    assert str(caught.value) == (
        "batch_size=96 over 2 ranks and 2 micro-batches is 24 a rank and micro-batch, "
        "not a multiple of block=16. "
        "Fits: 1, 3 ranks; trainer.batch_size=128; or trainer.block=8 (other draws: another run)"
    )
    with pytest.raises(UserError) as caught:
        check_sizes(100, ranks=16, accumulate=1, block=8)
    assert str(caught.value) == (
        "batch_size=100 over 16 ranks is about 6.2 a rank, not a multiple of block=8. Fits: trainer.batch_size=128"
    )


@pytest.mark.parametrize(("batch_size", "block"), [(128, 16), (24, 8), (100, 4), (6, 2), (7, 1), (1, 1)])
def test_default_block(batch_size: int, block: int) -> None:
    assert default_block(batch_size) == block


def test_sizes_below_one_are_named() -> None:
    with pytest.raises(UserError, match="accumulate=0 must be 1 or more"):
        check_sizes(8, 1, 0, 1)


@given(st.integers(1, 200), st.integers(1, 17), st.integers(1, 5), st.integers(1, 20))
def test_what_fits_fits_and_what_is_said_to_fit_does(batch_size: int, ranks: int, accumulate: int, block: int) -> None:
    try:
        rows = check_sizes(batch_size, ranks, accumulate, block)
    except UserError as error:
        said = str(error).split("Fits: ")[1]
        for some in re.findall(r"([\d, ]+) ranks", said):
            for fitting in some.split(", "):
                check_sizes(batch_size, int(fitting), accumulate, block)
        check_sizes(int(re.findall(r"batch_size=(\d+)", said)[0]), ranks, accumulate, block)
        for fitting in re.findall(r"trainer\.block=(\d+)", said):
            check_sizes(batch_size, ranks, accumulate, int(fitting))
    else:
        assert rows * ranks * accumulate == batch_size
        assert rows % block == 0
