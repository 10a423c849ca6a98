"""What an evaluation by attack has found so far, on disk, so that one that was killed goes on."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from poise.attacks.work import Work
from poise.errors import UserError


@dataclass(frozen=True)
class Piece:
    """What one attack made of some examples.

    Args:
        index: their positions in the split.
        digest: of each as it is, by `digests`.
        x_adv: as the attack left them.
        broken: whether that is wrong, and inside the threat.
        work: what it cost.
    """

    index: Int[Tensor, " n"]
    digest: Int[Tensor, " n"]
    x_adv: Float[Tensor, "n *input"]
    broken: Bool[Tensor, " n"]
    work: Work


class Pieces:
    """The finished pieces of an evaluation, a file each; of none where there is no directory.

    A file is written whole or not at all, and one that is damaged is passed over: its examples are attacked again.

    Args:
        directory: where they lie; None keeps nothing.
        of: what the evaluation is of, by `fingerprint`; pieces of another one are not seen.

    Raises:
        UserError: nothing can be written there.
    """

    def __init__(self, directory: str | Path | None, of: str) -> None:
        self._directory = None if directory is None else Path(directory) / of
        if self._directory is not None:
            _check_writable(self._directory)

    def kept(self, attack: str, x: Float[Tensor, "N *input"]) -> Iterator[Piece]:
        """What was kept of an attack on such inputs."""
        files = sorted(self._directory.glob(f"{attack}-*.safetensors")) if self._directory else ()
        for file in files:
            try:
                found = load_file(file)
                forwards, backwards, seconds = found.pop("work").tolist()
                piece = Piece(**found, work=Work(int(forwards), int(backwards), seconds))
            except (OSError, SafetensorError, KeyError, TypeError, ValueError):
                continue
            if _is_whole(piece, x):
                yield piece

    def keep(self, attack: str, piece: Piece) -> None:
        """Write a piece."""
        if self._directory is None:
            return
        path = self._directory / f"{attack}-{int(piece.index[0])}.safetensors"
        partial = path.with_suffix(".partial")
        cost = torch.tensor([piece.work.forwards, piece.work.backwards, piece.work.seconds], dtype=torch.float64)
        tensors = {name: getattr(piece, name) for name in ("index", "digest", "x_adv", "broken")}
        save_file({**{name: t.contiguous().cpu() for name, t in tensors.items()}, "work": cost}, partial)
        os.replace(partial, path)


def _check_writable(directory: Path) -> None:
    """Raises UserError before an attack that would end with what it found lost."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(f"kept={directory.parent} cannot be written: {error.strerror or error}.") from error


def _is_whole(piece: Piece, x: Tensor) -> bool:
    """Whether there is one of everything for each example, and inputs have the shape that they have in x."""
    rows = (len(piece.index),)
    is_known = piece.index.dtype == piece.digest.dtype == torch.int64 and piece.broken.dtype == torch.bool
    fits = piece.x_adv.shape == rows + x.shape[1:] and piece.x_adv.is_floating_point()
    return is_known and fits and all(each.shape == rows for each in (piece.index, piece.digest, piece.broken))


def digests(x: Float[Tensor, "B *input"], y: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
    """A number for each labelled example that another one hardly has."""
    values = x.double().flatten(1).view(torch.int64)
    places = torch.arange(1, values.shape[1] + 1, device=x.device) * -7046029254386353131 | 1
    return ((values ^ values >> 29) * places).sum(1) * 31 + y  # integers wrap, as they are meant to


def fingerprint(model: nn.Module, *settings: object) -> str:
    """Of a model's weights and what is done with it."""
    found = hashlib.sha256(repr(settings).encode())
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]
