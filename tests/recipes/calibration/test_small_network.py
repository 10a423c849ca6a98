import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poise_recipes.calibration.small_network import Network, answers, searched, start

CPU = torch.device("cpu")
INPUTS = torch.linspace(-2, 2, 50, dtype=torch.float64)[:, None]


def test_it_answers_as_layers_of_pytorch_do() -> None:
    network = start(CPU, 5, inputs=3, outputs=2)
    network[4] += 0.5
    layers = [nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2)]
    theirs = nn.Sequential(*layers).double()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), network, strict=True)))
    inputs = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(answers(network, inputs), theirs(inputs))


def test_it_starts_with_0_and_is_the_same_each_time() -> None:
    assert torch.equal(answers(start(CPU, 4), INPUTS), torch.zeros(50, 1, dtype=torch.float64))
    assert all(torch.equal(one, other) for one, other in zip(start(CPU, 4), start(CPU, 4), strict=True))


def test_it_learns_a_function_and_tells_of_its_search() -> None:
    told: list[float] = []
    network, converged = searched(start(CPU, 10), lambda net: [_error(net)], 1e-6, told.append)
    assert converged
    assert float(_error(network)) < 1e-3
    assert 0 < sum(told) <= 1
    assert not any(weight.requires_grad for weight in network)


def test_an_objective_in_parts_is_their_sum() -> None:
    def parts(network: Network) -> list[Tensor]:
        return [_error(network, rows) for rows in (slice(20), slice(20, 50))]

    whole, halved = (searched(start(CPU, 3), of, 0.01, lambda share: None)[0] for of in (lambda n: [_error(n)], parts))
    for one, other in zip(whole, halved, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cost", [0.01, 0.1])
def test_the_objective_and_what_holds_the_network_are_in_balance(cost: float) -> None:
    begun = start(CPU, 3)
    found = [weight.requires_grad_() for weight in searched(begun, lambda n: [_error(n)], cost, lambda share: None)[0]]
    pulls = torch.autograd.grad(_error(found), found)
    for weight, before, pull in zip(found, begun, pulls, strict=True):
        torch.testing.assert_close(pull, 2 * cost * (before - weight), rtol=0, atol=1e-4)


def _error(network: Network, rows: slice = slice(None)) -> Tensor:
    """The part of the mean squared error that these rows of 50 have."""
    return F.mse_loss(answers(network, INPUTS[rows]), INPUTS[rows].abs().sqrt(), reduction="sum") / 50
