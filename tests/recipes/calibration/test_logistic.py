import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distorted import skewed
from poise_recipes.calibration.logistic import Design, Elementwise, Full, solve

DESIGNS = [Elementwise, Full]

every_design = pytest.mark.parametrize("kind", DESIGNS)


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
    delta, converged = solve(design, held_out.logits, held_out.label, ridge)
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
    delta, converged = solve(design, inputs, label, torch.zeros_like(design.start(1.0)))
    assert converged
    assert torch.equal(delta, torch.zeros_like(delta))


def test_classes_that_can_be_separated_have_no_optimum() -> None:
    inputs, label = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64), torch.arange(2)
    design = Full(inputs)
    delta, converged = solve(design, inputs, label, torch.zeros(3, 2, dtype=torch.float64))
    assert not converged
    assert F.cross_entropy(inputs + design.logits(delta), label) < 1e-9
    _, held = solve(design, inputs, label, torch.full((3, 2), 1e-6, dtype=torch.float64))
    assert held
