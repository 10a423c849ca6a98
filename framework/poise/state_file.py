"""What was saved is read back as tensors and plain values: nothing in a file is run, whoever wrote it."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from poise.errors import UserError

NEEDED = {"pytorch-lightning_version", "state_dict", "loops", "epoch", "global_step"}  # of a training's state


def read_state(path: Path) -> dict[str, Any]:
    """A mapping that `torch.save` wrote, its tensors on the CPU.

    Raises:
        UserError: it asks for more than tensors and plain values, or is no such mapping.
    """
    if path.is_dir():
        raise UserError(
            f"{path} holds DeepSpeed's own shards, which are not read, for that runs what is in them: begin again "
            "with another run_dir"
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it asks for {named[1]}" if named else "it holds more than tensors and plain values"
        raise UserError(f"{path} is not read, for reading could run code: {what}. Remove that checkpoint.") from None
    except OSError:
        raise
    except Exception as error:  # whatever PyTorch stumbles over in what it did not write
        raise _nonsense(path) from error
    if not isinstance(found, dict):
        raise _nonsense(path)
    return found


class StateFile(TorchCheckpointIO):
    """How the trainer's state is written and read, under every strategy."""

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """As `read_state` does; more than `weights_only` is not to be had."""
        state = read_state(Path(path))
        if not state.get("optimizer_states") or not state.keys() >= NEEDED:
            raise _nonsense(Path(path))
        return state


def _nonsense(path: Path) -> UserError:
    return UserError(f"{path} is whole, and yet no state of a training: remove that checkpoint.")
