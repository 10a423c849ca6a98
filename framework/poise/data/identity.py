"""Whether data are those that a run began with."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from poise.data.dataset import Arrays, Splits

SAMPLED = 64  # inputs that a checksum is made of: to read all would take as long as an epoch


def identity_of(splits: Splits) -> dict[str, Any]:
    """What a run depends on: class names, and each split's size and checksum (all labels and groups, some inputs)."""
    streams = {f"streams.{name}": split for name, split in splits.streams.items()}
    found = {name: _of_split(split) for name, split in {**splits.main, **streams}.items()}
    return {"classes": list(splits.class_names), "splits": found}


def _of_split(split: Arrays) -> dict[str, Any]:
    checksum = hashlib.blake2b(digest_size=16)
    sample = torch.arange(0, len(split), max(1, len(split) // SAMPLED))
    for part in (split.label, split.group, split.x[sample] if len(split) else None):
        checksum.update(b"none" if part is None else _bytes(part))
    return {"examples": len(split), "checksum": checksum.hexdigest()}


def _bytes(values: Tensor) -> bytes:
    return values.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
