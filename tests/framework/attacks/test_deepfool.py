from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poise.attacks.deepfool import DeepFool
from poise.attacks.threat import Threat
from poise.errors import UserError

norms = pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
DUAL = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}


def network(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers).double()


def linear() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(nn.Linear(12, 5))


def curved() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 5))


def data(model: nn.Module, rows: int = 30) -> tuple[Tensor, Tensor]:
    x = torch.rand(rows, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        return x, model(x).argmax(1)


@norms
def test_of_a_linear_model_the_nearest_boundary_is_found_in_one_step(norm: str) -> None:
    model = linear()
    x, y = data(model)
    weight, logits = model[1].weight, model(x)
    ahead = (logits.gather(1, y[:, None]) - logits).double()
    slopes = torch.linalg.vector_norm(weight[y][:, None] - weight, DUAL[norm], dim=-1)
    expected = (ahead / slopes).nan_to_num(nan=torch.inf).amin(1).detach()
    threat = Threat(norm, 1e-3, None, None)
    found, distance = DeepFool(threat, steps=1).nearest(model, x, y)
    torch.testing.assert_close(distance, 1.02 * expected)
    torch.testing.assert_close(distance, threat.distance(found, x))
    assert (model(found).argmax(1) != y).all()


@norms
def test_what_a_call_gives_is_permitted_and_wrong_where_the_boundary_is_near(norm: str) -> None:
    model = curved()
    x, y = data(model)
    _, distance = DeepFool(Threat(norm, 1.0, None, None)).nearest(model, x, y)
    threat = Threat(norm, float(distance.median()), None, None)
    x_adv = DeepFool(threat)(model, x, y)
    assert threat.permits(x_adv, x).all()
    assert torch.equal(model(x_adv).argmax(1) != y, distance <= threat.eps * (1 + 1e-12))
    in_range = Threat(norm, threat.eps)
    assert in_range.permits(DeepFool(in_range)(model, x, y), x).all()


@norms
def test_where_values_lie_at_an_end_of_the_range_the_walk_turns_to_others(norm: str) -> None:
    model = curved()
    x = data(model)[0].round()
    y = model(x).argmax(1)
    found, distance = DeepFool(Threat(norm, 1e-3)).nearest(model, x, y)
    assert found.min() >= 0
    assert found.max() <= 1
    assert (model(found).argmax(1) != y)[distance.isfinite()].all()
    assert distance.isfinite().double().mean() > 0.8


def test_what_is_wrong_stays_and_is_at_no_distance() -> None:
    model = curved()
    x, y = data(model)
    found, distance = DeepFool(Threat("l2", 0.1)).nearest(model, x, (y + 1) % 5)
    assert torch.equal(found, x)
    assert not distance.any()


class Flat(nn.Module):
    """Without a slope, or with one that is no number."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        root = (x - x.detach()).sum((1, 2, 3)).abs().sqrt()  # 0, and its slope no number
        return torch.tensor([2.0, 1.0, 0.0]) + (self.slope * root)[:, None]


@norms
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_without_a_slope_there_is_no_way(norm: str, slope: float) -> None:
    x, y = torch.full((2, 3, 2, 2), 0.5), torch.zeros(2, dtype=torch.int64)
    found, distance = DeepFool(Threat(norm, 0.1), steps=3).nearest(Flat(slope), x, y)
    assert torch.equal(found, x)
    assert distance.isinf().all()


def test_examples_do_not_depend_on_their_batch_nor_on_the_mode_around() -> None:
    model = curved()
    x, y = data(model)
    attack = DeepFool(Threat("l2", 0.05))
    whole = attack(model, x, y)
    order = torch.tensor([7, 2, 9])
    with torch.inference_mode():
        part = attack(model, x[order], y[order])
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-12)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0 of deepfool is not a whole number >= 1"),
        ({"classes": 0}, "classes=0 of deepfool is not a whole number >= 1"),
        ({"overshoot": -1.0}, "overshoot=-1.0 of deepfool is not a finite number >= 0"),
    ],
)
def test_wrong_parameters_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DeepFool(Threat("l2", 0.1), **arguments)
