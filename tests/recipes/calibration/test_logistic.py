import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distorted import skewed
from poise_recipes.calibration.logistic import Design, Elementwise, Full, solve

DESIGNS = [Elementwise, Full]

every_design = pytest.mark.parametrize("kind", DESIGNS)


def untold(share: float) -> None:
    """Nobody watches."""


def random_like(tensor: Tensor, seed: int) -> Tensor:
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_design
def test_the_pull_is_the_slope_along_coefficients(kind: type[Elementwise] | type[Full]) -> None:
    design = kind(skewed(30).logits)
    coefficients = random_like(design.start(1.0), 1).requires_grad_()
    slope = random_like(design.inputs, 2)
    (design.logits(coefficients) * slope).sum().backward()
    torch.testing.assert_close(design.pull(slope), coefficients.grad)
    torch.testing.assert_close(design.squared().logits(design.start(1.0)), design.inputs.square())


@every_design
def test_the_start_multiplies_inputs(kind: type[Elementwise] | type[Full]) -> None:
    design = kind(skewed(30).logits)
    torch.testing.assert_close(design.logits(design.start(0.3)), 0.3 * design.inputs)


@every_design
@pytest.mark.parametrize("cost", [0.0, 0.01])
def test_the_objective_is_flat_at_the_solution(kind: type[Elementwise] | type[Full], cost: float) -> None:
    held_out = skewed(300)
    design: Design = kind(held_out.logits)
    ridge = torch.full_like(design.start(1.0), cost)
    delta, converged = solve(design, held_out.logits, held_out.label, ridge, untold)
    assert converged
    delta.requires_grad_()
    loss = F.cross_entropy(held_out.logits + design.logits(delta), held_out.label) + (ridge * delta.square()).sum()
    loss.backward()
    assert delta.grad is not None
    assert delta.grad.abs().max() < 1e-8


@every_design
def test_nothing_is_added_where_nothing_can_be_gained(kind: type[Elementwise] | type[Full]) -> None:
    inputs, label = torch.zeros(4, 2, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    design: Design = kind(inputs)
    delta, converged = solve(design, inputs, label, torch.zeros_like(design.start(1.0)), untold)
    assert converged
    assert torch.equal(delta, torch.zeros_like(delta))


def test_classes_that_can_be_separated_have_no_optimum() -> None:
    inputs, label = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64), torch.arange(2).flip(0)
    design, none = Full(inputs), torch.zeros(3, 2, dtype=torch.float64)
    delta, converged = solve(design, inputs, label, none, untold)
    assert not converged
    assert torch.equal((inputs + design.logits(delta)).argmax(1), label)
    _, held = solve(design, inputs, label, none + 1e-6, untold)
    assert held


def test_a_search_whose_classes_are_separated_ends_there() -> None:
    told: list[float] = []
    held_out = skewed(50, 20)  # more coefficients than examples
    design = Full(held_out.logits)
    delta, converged = solve(design, held_out.logits, held_out.label, torch.zeros(21, 20).double(), told.append)
    logits = held_out.logits + design.logits(delta)
    assert not converged
    assert torch.equal(logits.argmax(1), held_out.label)
    assert F.cross_entropy(logits, held_out.label) > 1e-9, "none of the steps that take them further apart"
    assert len(told) < 20


@every_design
def test_it_tells_how_far_it_is(kind: type[Elementwise] | type[Full]) -> None:
    told: list[float] = []
    held_out = skewed(300)
    design: Design = kind(held_out.logits)
    _, converged = solve(design, held_out.logits, held_out.label, torch.full_like(design.start(1.0), 0.01), told.append)
    assert converged
    assert all(share > 0 for share in told)
    assert 0.3 < sum(told) <= 1
