"""Tests that need GPUs are skipped, with that reason, where there are none."""

import pytest
import torch

FOUND = torch.cuda.device_count()


def needs_gpus(number: int = 1) -> pytest.MarkDecorator:
    """Skips a test on a machine with fewer GPUs."""
    reason = f"{number} GPUs are needed, and this machine has {FOUND}" if FOUND else "no GPU on this machine"
    return pytest.mark.skipif(number > FOUND, reason=reason)


def job(name: str, gpus: int = 0, **settings: object) -> object:
    """Settings of a trainer as a parameter of a test: on the CPU, or on so many GPUs."""
    device = {"accelerator": "cuda" if gpus else "cpu", "devices": max(gpus, 1)}
    return pytest.param({**device, **settings}, id=name, marks=[needs_gpus(gpus)] if gpus else [])
