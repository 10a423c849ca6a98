"""A batch that has been attacked, and a network for it, in double precision."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from poise import Batch

ROWS, FEATURES, CLASSES = 6, 5, 4


def batch(seed: int = 0, soft: bool = False) -> Batch:
    """Inputs, changed ones and labels; of targets that are soft each has a share of every class."""
    keyed = torch.Generator().manual_seed(seed)
    x = torch.rand(ROWS, FEATURES, generator=keyed, dtype=torch.float64)
    made = Batch.of(x, torch.arange(ROWS) % CLASSES, num_classes=CLASSES)
    x_adv = (x + 0.1 * torch.rand(ROWS, FEATURES, generator=keyed, dtype=torch.float64)).clamp(0, 1)
    target = torch.rand(ROWS, CLASSES, generator=keyed, dtype=torch.float64).softmax(1) if soft else made.target
    return made.replace(x_adv=x_adv, target=target)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(FEATURES, 7), nn.Tanh(), nn.Linear(7, CLASSES)).double()


def assert_same(model: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """Two losses of a model agree, and so do their gradients."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    parameters = list(model.parameters())
    pairs = zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def heard() -> tuple[Mapping[str, float], Callable[[str, object], None]]:
    """What a step logs, as means by name, and the `log` to give it."""
    values: dict[str, float] = {}

    def log(name: str, value: object) -> None:
        values[name] = float(torch.as_tensor(value).double().mean())

    return values, log
