import pytest
import torch
from torch import Tensor

from poise_recipes.calibration.line_search import descend


def well(point: Tensor, other: Tensor) -> Tensor:
    """Least at 1 and 0; it has no value below -1."""
    return (point - 1).square() + other.square() + 0 * (point + 1).sqrt()


@pytest.mark.parametrize(("step", "reached"), [(-1.0, 1.0), (-3.0, 1.5), (-100.0, 1.5625)])
def test_a_step_is_halved_until_the_objective_is_lower(step: float, reached: float) -> None:
    point, other = torch.zeros(()), torch.ones(())
    further = descend(well, (point, other), (torch.tensor(step), torch.zeros(())), torch.tensor(-2 * step))
    assert further is not None
    assert float(further[0]) == reached
    assert well(*further) < well(point, other)


def test_where_the_objective_has_no_value_the_step_is_halved_too() -> None:
    further = descend(lambda x: x.log().square(), (torch.tensor(2.0),), (torch.tensor(4.0),), torch.tensor(2.77))
    assert further is not None
    assert float(further[0]) == 1.0


def test_a_direction_that_leads_upwards_leads_nowhere() -> None:
    still = torch.zeros((), dtype=torch.float64)
    assert descend(well, (still, still), (still + 0.5, still), still + 1.0) is None
