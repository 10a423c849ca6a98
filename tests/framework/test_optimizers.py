"""Optimisers make the steps that their formulas say."""

import torch
from torch import Tensor

from poise.optimizers.adamw import adamw
from poise.optimizers.sgd import sgd

GRADIENTS = [torch.tensor([0.3, -1.2, 0.05]), torch.tensor([-0.4, 0.7, 0.01]), torch.tensor([1.0, 0.2, -0.3])]


def _trained(make: object, **parameters: object) -> Tensor:
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    optimizer = make([weight], **parameters)  # type: ignore[operator]
    for gradient in GRADIENTS:
        weight.grad = gradient.double()
        optimizer.step()
    return weight.detach()


def test_sgd_defaults() -> None:
    w, v = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for gradient in GRADIENTS:
        v = 0.9 * v + gradient.double() + 5e-4 * w
        w = w - 0.1 * v
    torch.testing.assert_close(_trained(sgd), w, rtol=1e-12, atol=0)


def test_sgd_with_nesterov() -> None:
    w, v = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for gradient in GRADIENTS:
        v = 0.5 * v + gradient.double()
        w = w - 0.2 * (gradient.double() + 0.5 * v)
    given = _trained(sgd, lr=0.2, momentum=0.5, nesterov=True, weight_decay=0.0)
    torch.testing.assert_close(given, w, rtol=1e-12, atol=0)


def test_adamw_decouples_weight_decay() -> None:
    w = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    m, s = torch.zeros_like(w), torch.zeros_like(w)
    for t, gradient in enumerate(GRADIENTS, start=1):
        g = gradient.double()
        w = w * (1 - 1e-3 * 1e-2)
        m, s = 0.8 * m + 0.2 * g, 0.99 * s + 0.01 * g**2
        w = w - 1e-3 * (m / (1 - 0.8**t)) / ((s / (1 - 0.99**t)).sqrt() + 1e-8)
    torch.testing.assert_close(_trained(adamw, beta1=0.8, beta2=0.99), w, rtol=1e-12, atol=0)
