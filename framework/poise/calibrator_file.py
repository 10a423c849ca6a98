"""A fitted calibrator as a file of its own: to be applied to logits that come later."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from poise.card import Described
from poise.errors import UserError
from poise.models.weights import misfits
from poise.rebuilding import calibrator_of

FORMAT = 1
NOTE = "poise_calibrator"  # among the metadata of a safetensors file


@dataclass(frozen=True)
class CalibratorFile:
    """What such a file holds.

    Args:
        calibrator: fitted.
        described: its name and parameters.
        class_names: C names, in the order of its logits.
    """

    calibrator: nn.Module
    described: Described
    class_names: tuple[str, ...]

    def bytes(self) -> bytes:
        """The whole file: buffers as safetensors, beside them what they are of."""
        state = {name: value.contiguous().cpu() for name, value in self.calibrator.state_dict().items()}
        note = {"format": FORMAT, **self.described, "class_names": list(self.class_names), "sha256": _digest(state)}
        return save(state, {NOTE: json.dumps(note)})

    @classmethod
    def read(cls, path: str | Path, trust: bool = False) -> "CalibratorFile":
        """What `bytes` gave.

        Args:
            path: of the file.
            trust: whether code that the file names but poise does not know may be imported.

        Raises:
            UserError: no such file, none of poise's, of a later format, or a calibrator that cannot be made again.
        """
        try:
            with safe_open(path, framework="pt") as file:
                note = _noted(path, (file.metadata() or {}).get(NOTE, ""))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
        described = {"name": note["name"], "parameters": note["parameters"]}
        calibrator = calibrator_of(described, trust, str(path))
        own = calibrator.state_dict()
        if state.keys() != own.keys():
            raise UserError(f"{path} does not fit {note['name']}: {'; '.join(misfits(state, own))}.")
        if note["sha256"] != _digest(state):
            raise UserError(f"{path} was changed after it was written (its checksum differs).")
        calibrator.load_state_dict(state)
        return cls(calibrator, described, tuple(note["class_names"]))


def _digest(state: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _noted(path: str | Path, text: str) -> dict[str, Any]:
    """What is written of the calibrator, all of its kind."""
    try:
        note = json.loads(text)
        kinds = {"format": int, "name": str, "parameters": dict, "class_names": list, "sha256": str}
        fits = all(isinstance(note[name], kind) for name, kind in kinds.items())
    except (ValueError, KeyError, TypeError):
        fits = False
    names = note["class_names"] if fits else []
    if len(names) < 2 or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserError(f"{path} holds no calibrator: poise calibrate … save=calibrator.safetensors makes one.")
    if note["format"] > FORMAT:
        raise UserError(f"{path} has format {note['format']}, this poise reads up to {FORMAT}: update poise.")
    found: dict[str, Any] = note
    return found
