"""A weight is cast to bfloat16 once a step, not once a pass: an attack makes dozens of passes at the same weights."""

from functools import cache

import torch
from torch.nn.functional import linear


def keep_casts() -> None:
    """Have autocast keep what it casts until its context ends, which Lightning switches off.

    Lightning does so for the sake of releases of PyTorch in which a pass without gradients, such as that for clean
    probabilities, leaves casts from which no gradient reaches a weight; there they stay off.
    """
    torch.set_autocast_cache_enabled(_casts_have_gradients())


@cache
@torch.inference_mode(False)
@torch.enable_grad()
def _casts_have_gradients() -> bool:
    """Whether a weight that was first cast without gradients has them in the next pass."""
    weight = torch.ones(1, 1, device="cpu", requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=True):
        with torch.no_grad():
            linear(weight.detach(), weight)
        return linear(weight.detach(), weight).requires_grad
