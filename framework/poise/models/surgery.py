"""Cutting somebody else's network in front of its last layer without touching it."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from poise.modes import in_mode


@dataclass(frozen=True)
class Found:
    """A layer that may give the logits, its name, and whether its place alone says that it does."""

    linear: nn.Linear
    name: str
    certain: bool


def find_head(network: nn.Module, num_classes: int) -> Found | None:
    """The last `nn.Linear` with `num_classes` outputs; `certain` where it ends a chain of `nn.Sequential`."""
    linears = [
        (m, name) for name, m in network.named_modules() if isinstance(m, nn.Linear) and m.out_features == num_classes
    ]
    if not linears:
        return None
    linear, name = linears[-1]
    return Found(linear, name, certain=_last(network) is linear)


def without(network: nn.Module, layer: nn.Module) -> nn.Module:
    """The network with `layer` replaced by the identity, sharing everything else with it.

    Modules on the way to `layer` are copied one by one, with the same dictionaries of parameters, buffers and
    hooks; all others are the network's own. The network itself does not change.
    """
    if network is layer:
        return nn.Identity()
    view = copy.copy(network)
    view._modules = {
        name: without(child, layer) if child is not None and _holds(child, layer) else child
        for name, child in network._modules.items()
    }
    return view


@torch.no_grad()
def same_function(a: nn.Module, b: nn.Module, x: Float[Tensor, "B *input"]) -> bool:
    """Whether two modules map x to the same [B, C], up to rounding, in evaluation mode."""
    with in_mode(a, "eval"), in_mode(b, "eval"):
        expected = a(x.detach())
        try:
            given = b(x.detach())
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            return False
    if not (isinstance(expected, Tensor) and isinstance(given, Tensor)):
        return False
    if expected.is_meta:
        return expected.shape == given.shape
    tolerance = 1e-4 if expected.dtype in (torch.float32, torch.float64) else 5e-2
    scale = max(float(expected.abs().max()), 1e-6)
    return expected.shape == given.shape and float((expected - given).abs().max()) <= tolerance * scale


def _last(network: nn.Module) -> nn.Module:
    while type(network) is nn.Sequential and len(network) > 0:
        network = network[-1]
    return network


def _holds(module: nn.Module, layer: nn.Module) -> bool:
    return any(m is layer for m in module.modules())
