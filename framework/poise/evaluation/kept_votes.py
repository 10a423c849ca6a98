"""Votes that were counted before an evaluation was killed, on disk, so that it goes on."""

import os
import shutil
import time
from pathlib import Path

from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

OFTEN = 60.0  # seconds between two writes


class KeptVotes:
    """The votes on some examples, a file for each rank that counted; of none where there is no directory.

    A file is written whole or not at all, and one that is damaged is passed over: its votes are counted again.

    Args:
        directory: where they lie; None keeps nothing.
        of: what they are of, by `poise.attacks.pieces.fingerprint`; others are not seen.
        rank: whose file is written.
    """

    def __init__(self, directory: Path | None, of: str, rank: int) -> None:
        self._directory = None if directory is None else directory / f"votes-{of}"
        self._rank, self._written = rank, time.monotonic()

    def found(self) -> dict[int, Int[Tensor, "ballots C"]]:
        """What any rank has kept, by the example's position."""
        known: dict[int, Tensor] = {}
        for file in self._directory.glob("*.safetensors") if self._directory else ():
            try:
                kept = load_file(file)
                known |= dict(zip(kept["index"].tolist(), kept["votes"].unbind(), strict=True))
            except (OSError, SafetensorError, KeyError, ValueError):
                continue
        return known

    def keep(self, index: Int[Tensor, " n"], votes: Int[Tensor, "n ballots C"]) -> None:
        """Write what this rank has so far, if it is time to."""
        if self._directory is None or time.monotonic() < self._written + OFTEN:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"{self._rank}.safetensors"
        partial = path.with_suffix(".partial")
        save_file({"index": index.contiguous(), "votes": votes.contiguous()}, partial)
        os.replace(partial, path)
        self._written = time.monotonic()

    def clear(self) -> None:
        """Forget everything: it is counted."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
