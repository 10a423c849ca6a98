"""How much is worked on at a time, where work can be done block by block."""

import torch

FILLING = 2**24  # numbers that keep an accelerator busy


def block_size(device: torch.device, cached: int) -> int:
    """Numbers of a block: `cached` of them, which stay in a processor's cache, or as many as keep an accelerator busy.

    Args:
        device: that works.
        cached: numbers, 1 or more.
    """
    return cached if device.type == "cpu" else FILLING
