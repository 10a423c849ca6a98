import math
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Le

from poise.errors import UserError
from poise.number_checks import check_above_zero, check_counts, check_shares, within_bounds


def test_numbers_of_python_and_numpy_pass() -> None:
    check_counts("a test", first=1, second=np.int64(7))
    check_counts("a test", 7, largest=7)
    check_shares("a test", first=0.5, second=np.float32(0.5), third=Fraction(1, 3))
    check_above_zero("a test", first=1e-300, second=2, third=np.float64(0.5))


@pytest.mark.parametrize("wrong", [0, -1, 1.0, 2.5, True, "2", None, math.nan, torch.tensor(2)])
def test_what_is_no_count_is_said(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"^steps=.* of a test is not a whole number >= 1\.$"):
        check_counts("a test", good=1, steps=wrong)


def test_a_count_beyond_the_most_is_said() -> None:
    with pytest.raises(UserError, match=r"^bins=10001 of a test is not a whole number in 1…10,000\.$"):
        check_counts("a test", 10_000, bins=10_001)


@pytest.mark.parametrize("wrong", [0, 1, 1.0, -0.1, math.nan, math.inf, True, "0.1", None, torch.tensor(0.1)])
def test_what_is_no_share_is_said(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"^alpha=.* of a test is not a number between 0 and 1\.$"):
        check_shares("a test", good=0.5, alpha=wrong)


@pytest.mark.parametrize("wrong", [0, 0.0, -1, math.nan, math.inf, True, "1", None, torch.tensor(1.0)])
def test_what_is_not_above_zero_is_said(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"^width=.* of a test is not a number > 0\.$"):
        check_above_zero("a test", good=0.5, width=wrong)


class Made:
    @within_bounds
    def __init__(self, first: Annotated[int, Ge(1), Le(9)], second: Annotated[float, Gt(0)] = 1.0, *rest: Any) -> None:
        self.kept = (first, second, *rest)


def test_a_constructor_is_held_to_the_bounds_of_its_types() -> None:
    assert Made(9, 2, "anything").kept == (9, 2, "anything")
    assert Made(second=0.5, first=1).kept == (1, 0.5)
    look: Any = Made
    for count in (0, 10, 2.0, True):
        with pytest.raises(UserError, match=r"^first=.* of Made has to be a whole number, 1 or more and at most 9\.$"):
            look(count)
    for number in (0.0, -1, math.nan, "1"):
        with pytest.raises(UserError, match=r"^second=.* of Made has to be a number, above 0\.$"):
            look(1, number)
    with pytest.raises(TypeError, match="first"):
        look()
