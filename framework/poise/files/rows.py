"""Rows of logits or probabilities, held against what calibrators and metrics can take."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from poise.errors import UserError

LARGEST = 1e30  # logit: the difference of two, and its square, are finite
CLIPPED = "; where 0 is a rounded probability, clip it, as numpy.clip(p, 1e-6, 1) does, and divide rows by their sums"
SUM = 0.01  # how far from one the probabilities of an example may add up to, when they were rounded

Where = Callable[[int], str]


@dataclass(frozen=True)
class Rows:
    """Labelled examples.

    Args:
        logits: float64; of probabilities, their logarithms. -inf is a class that is ruled out.
        labels: int64, in 0…C-1.
    """

    logits: Float[np.ndarray, "N C"]
    labels: Int[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.labels)


def checked_rows(
    said: str, kind: str, values: Float[np.ndarray, "N C"], labels: Int[np.ndarray, " N"], where: Where
) -> Rows:
    """Rows of logits that calibrators and metrics can take; arguments are those of `as_logits`, and labels in 0…C-1.

    Raises:
        UserError: a row as there, or one that rules its own class out: nothing that is fitted gives it a likelihood.
    """
    logits = as_logits(said, kind, values, where)
    ruled_out = np.isneginf(logits)
    _refuse(said, where, np.take_along_axis(ruled_out, labels[:, None], 1)[:, 0], "rules its own class out", CLIPPED)
    return Rows(logits, labels)


def as_logits(said: str, kind: str, values: Float[np.ndarray, "N C"], where: Where) -> Float[np.ndarray, "N C"]:
    """Logits, of probabilities their logarithms.

    Args:
        said: how the user gave their file, and what in it they are, for messages.
        kind: logits or probabilities.
        values: float64.
        where: a row's place in the file, in words.

    Raises:
        UserError: a row that has NaN, +inf, nothing but -inf or a number beyond 1e30, or probabilities that are none.
    """
    if kind == "probabilities":
        _refuse(said, where, values.min(1) < 0, "has a negative probability")
        _refuse(said, where, np.abs(values.sum(1) - 1) > SUM, "has probabilities that do not add up to 1")
        with np.errstate(divide="ignore"):
            values = np.log(values)
    ruled_out = np.isneginf(values)
    _refuse(said, where, (~np.isfinite(values) & ~ruled_out).any(1) | ruled_out.all(1), "is not finite")
    _refuse(said, where, np.where(ruled_out, 0, np.abs(values)).max(1) > LARGEST, f"has a logit beyond {LARGEST:g}")
    return values


def _refuse(said: str, where: Where, wrong: np.ndarray, what: str, way_out: str = "") -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        also = f" ({len(rows)} of {len(wrong)} do)" if len(rows) > 1 else ""
        raise UserError(f"{said}: {where(int(rows[0]))} {what}{also}{way_out}.")
