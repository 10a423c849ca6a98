"""Finds the first step whose loss is not finite, without waiting for the device at every step."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from poise.distributed import Ranks


class NonFiniteLoss(RuntimeError):
    """A loss that became NaN or infinite, with the exact step."""


class FiniteWatch:
    """Keeps the latest losses and their terms on the device; looks at them every few steps.

    Args:
        every: optimiser steps between two looks; each is one reduction over ranks.
    """

    def __init__(self, every: int = 16) -> None:
        self.every = every
        self._kept: list[tuple[int, Tensor, Mapping[str, Tensor]]] = []

    def note(self, step: int, loss: Float[Tensor, ""], terms: Mapping[str, Float[Tensor, ""]]) -> None:
        """Take one step's loss (a scalar) and terms (scalars by name)."""
        self._kept.append((step, loss.detach(), {name: value.detach() for name, value in terms.items()}))

    def due(self, step: int) -> bool:
        """Whether this step is one to look at."""
        return (step + 1) % self.every == 0

    def look(self, ranks: Ranks) -> None:
        """Wait for the device once and compare over ranks; call on all ranks.

        Raises:
            NonFiniteLoss: on every rank, naming the first bad step of any of them.
        """
        if not self._kept:
            return
        finite = torch.stack([loss for _, loss, _ in self._kept]).isfinite()
        steps = torch.tensor([step for step, _, _ in self._kept], dtype=torch.float64, device=finite.device)
        first = float(-ranks.max(-steps.masked_fill(finite, torch.inf).min()))
        if first == torch.inf:
            self._kept = []
            return
        mine = (terms for step, loss, terms in self._kept if step == first and not loss.isfinite())
        shown = ", ".join(f"{name}={float(value):.4g}" for name, value in next(mine, {}).items())
        raise NonFiniteLoss(
            f"the loss of step {int(first)} is not finite"
            + (f" ({shown})" if shown else "")
            + "; try a smaller optimizer.lr, or trainer.gradient_clip=1"
        )
