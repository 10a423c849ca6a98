import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poise.robustness.power_law import LEAST, MOST, power_law

RADII = [0.001 * 2**k for k in range(10)]


@given(exponent=st.floats(0.3, 3.0), at_one=st.floats(0.05, 0.29))
def test_a_law_is_found_again_from_the_errors_that_it_makes_where_they_are_small(
    exponent: float, at_one: float
) -> None:
    factor = at_one / RADII[7] ** exponent
    errors = [min(1.0, factor * radius**exponent) for radius in RADII]
    chosen = [r for r, error in zip(RADII, errors, strict=True) if LEAST < error < MOST]
    law = power_law(RADII, errors)
    if len(chosen) < 5:
        assert law is None
        return
    assert law is not None
    assert (law.exponent, law.r2) == (pytest.approx(exponent), pytest.approx(1.0))
    assert law.factor == pytest.approx(factor)
    assert (law.low, law.high, law.radii) == (pytest.approx(chosen[0]), pytest.approx(chosen[-1]), len(chosen))
    assert law.at(chosen[2]) == pytest.approx(factor * chosen[2] ** exponent)


def test_of_points_that_lie_on_no_line_it_is_that_of_numpy() -> None:
    errors = [0.002, 0.003, 0.011, 0.015, 0.06, 0.09, 0.2, 0.28, 0.9, 1.0]
    law = power_law(RADII, errors)
    assert law is not None
    x, y = np.log(RADII[:8]), np.log(errors[:8])
    slope, level = np.polyfit(x, y, 1)
    assert (law.exponent, math.log(law.factor)) == (pytest.approx(slope), pytest.approx(level))
    assert law.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


def test_a_radius_of_zero_and_errors_that_are_not_small_say_nothing() -> None:
    assert power_law([0.0, *RADII[:4]], [0.01, 0.01, 0.02, 0.04, 0.08]) is None
    assert power_law(RADII, [0.5] * 10) is None
    assert power_law(RADII, [0.0] * 10) is None
