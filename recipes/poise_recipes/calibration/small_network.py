"""A small network, found near its start: what maps take their slopes from."""

from collections.abc import Callable, Iterable
from itertools import chain

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Network = list[Tensor]
"""Weights and biases of three layers, from the input on."""

Objective = Callable[[Network], Iterable[Tensor]]
"""Numbers whose sum is to be least; each is let go before the next is asked for."""

FLATTEST = 1e-8  # slope that is added to what a network gives, so that none is 0
SEED = 0  # of the network's start: fitting draws nothing
ROUNDS, ROUND = 25, 20  # of L-BFGS, and steps in each
TRIES = 25  # of a step's line search


def start(device: torch.device, hidden: int, inputs: int = 1, outputs: int = 1) -> Network:
    """Weights and biases of a network that answers 0: hidden layers as PyTorch's, the last one 0."""
    keyed = torch.Generator("cpu").manual_seed(SEED)

    def uniform(*shape: int, fan_in: int) -> Tensor:
        drawn = torch.rand(*shape, generator=keyed, dtype=torch.float64, device="cpu")
        return ((2 * drawn - 1) / fan_in**0.5).to(device)

    return [
        uniform(hidden, inputs, fan_in=inputs),
        uniform(hidden, fan_in=inputs),
        uniform(hidden, hidden, fan_in=hidden),
        uniform(hidden, fan_in=hidden),
        torch.zeros(outputs, hidden, dtype=torch.float64, device=device),
        torch.zeros(outputs, dtype=torch.float64, device=device),
    ]


def answers(network: Network, inputs: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
    """What the network makes of its inputs, through two hidden layers of rectified units."""
    first, first_bias, second, second_bias, last, last_bias = network
    inner = F.linear(F.linear(inputs, first, first_bias).relu(), second, second_bias).relu()
    return F.linear(inner, last, last_bias)


@torch.enable_grad()
def searched(
    begun: Network, objective: Objective, cost: float, advance: Callable[[float], None]
) -> tuple[Network, bool]:
    """The network with the least objective + cost · |θ - θ₀|² near its start θ₀, and whether L-BFGS ended by itself.

    `advance` is told of shares of the search that are done, of 1 in all.
    """
    network = [weight.clone().requires_grad_() for weight in begun]
    optimizer = torch.optim.LBFGS(
        network, max_iter=ROUND, max_eval=TRIES * ROUND, tolerance_grad=1e-7, line_search_fn="strong_wolfe"
    )

    def value() -> Tensor:
        optimizer.zero_grad()
        total = network[0].new_zeros(())
        for part in chain(objective(network), [cost * _moved(network, begun)]):
            part.backward()
            total += part.detach()
        return total

    taken = steps = 0
    while taken == steps < ROUNDS * ROUND:
        optimizer.step(value)
        taken, steps = optimizer.state[network[0]]["n_iter"], steps + ROUND
        advance(1 / ROUNDS)
    return [weight.detach() for weight in network], taken < steps


def _moved(network: Network, begun: Network) -> Float[Tensor, ""]:
    """How far a network is from its start: the squares of all changes."""
    return torch.stack([(now - then).square().sum() for now, then in zip(network, begun, strict=True)]).sum()
