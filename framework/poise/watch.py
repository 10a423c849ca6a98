"""Finds the first step whose loss is not finite, without waiting for the device at every step."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from poise.distributed import Ranks


class NonFiniteLoss(RuntimeError):
    """A loss that became NaN or infinite, with the exact step."""


class FiniteWatch:
    """Remembers on the device the first bad step and its terms; looks at them every few steps.

    Args:
        every: optimiser steps between two looks; each is one reduction over ranks.
    """

    def __init__(self, every: int = 16) -> None:
        self.every = every
        self._first: Tensor | None = None
        self._terms: Tensor | None = None
        self._names: tuple[str, ...] = ()

    def note(self, step: int, loss: Float[Tensor, ""], terms: Mapping[str, Float[Tensor, ""]]) -> None:
        """Take one step's loss (a scalar) and terms (scalars by name)."""
        values = torch.stack([value.detach().double() for value in terms.values()]) if terms else loss.new_zeros(0)
        bad = torch.where(torch.isfinite(loss.detach()), torch.inf, float(step)).double()
        if self._first is None or self._terms is None or tuple(terms) != self._names:
            self._first = bad if self._first is None else torch.minimum(self._first, bad)
            self._terms, self._names = values, tuple(terms)
            return
        self._terms = torch.where(torch.isinf(self._first) & ~torch.isinf(bad), values, self._terms)
        self._first = torch.minimum(self._first, bad)

    def due(self, step: int) -> bool:
        """Whether this step is one to look at."""
        return (step + 1) % self.every == 0

    def look(self, ranks: Ranks) -> None:
        """Wait for the device once and compare over ranks; call on all ranks.

        Raises:
            NonFiniteLoss: on every rank, naming the first bad step of any of them.
        """
        if self._first is None or self._terms is None:
            return
        first = -ranks.max(-self._first)
        if torch.isinf(first):
            return
        mine = bool(self._first == first)
        shown = ", ".join(f"{n}={v:.4g}" for n, v in zip(self._names, self._terms.tolist(), strict=True))
        raise NonFiniteLoss(
            f"the loss of step {int(first)} is not finite"
            + (f" ({shown})" if mine and shown else "")
            + "; try a smaller optimizer.lr, or trainer.gradient_clip=1"
        )
