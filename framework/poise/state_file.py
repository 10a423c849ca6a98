"""What was saved is read back as tensors and plain values: nothing in a file is run, whoever wrote it."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from poise.errors import UserError


def read_state(path: Path) -> dict[str, Any]:
    """A file of `torch.save`, its tensors on the CPU.

    Raises:
        UserError: it asks for more than tensors and plain values.
    """
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it asks for {named[1]}" if named else "it holds more than tensors and plain values"
        raise UserError(f"{path} is not read, for reading could run code: {what}. Remove that checkpoint.") from None
    return found


class StateFile(TorchCheckpointIO):
    """How the trainer's state is written and read, under every strategy."""

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """As `read_state` does; more than `weights_only` is not to be had."""
        return read_state(Path(path))
