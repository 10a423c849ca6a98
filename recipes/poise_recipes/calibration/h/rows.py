"""What h-calibration is fitted to: log-probabilities in blocks that stay in the processor's cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, inf

from poise.blocks import block_size

BLOCK = 2**18  # numbers
NEVER = -1e300  # log-probability of a masked class where gradients pass: times any 1/T still finite


@dataclass(frozen=True)
class Rows:
    """Examples in blocks, classes first: a sum over a few numbers that lie side by side takes ten times as long.

    Events, an example and a class each, are numbered as the blocks have them, one after the other.

    Args:
        log_p: log-probabilities of each block, in single precision, finite for masked classes too.
        label: of each block's examples.
        possible: events of classes that are not masked.
        occurred: whether each of these is of the example's own class.
    """

    log_p: Sequence[Float[Tensor, "C _"]]
    label: Sequence[Int[Tensor, " _"]]
    possible: slice | Int[Tensor, " E"]
    occurred: Bool[Tensor, " E"]

    @classmethod
    def of(cls, logits: Float[Tensor, "N C"], label: Int[Tensor, " N"], temperature: float) -> "Rows":
        """Logits, divided by a temperature, and their labels."""
        size = block_rows(logits)
        parts, labels = logits.split(size), label.split(size)
        log_p = [_single(classes_first(part, temperature)) for part in parts]
        occurred = torch.cat([_own(each, own).flatten() for each, own in zip(log_p, labels, strict=True)])
        unmasked = torch.cat([(part > -inf).t().flatten() for part in parts])
        possible = slice(None) if unmasked.all() else unmasked.nonzero()[:, 0]
        return cls(log_p, labels, possible, occurred[possible])

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.occurred.device

    def blocks(self, events: Float[Tensor, " E"]) -> list[Float[Tensor, "C _"]]:
        """What all events, masked ones too, have, as the blocks have it."""
        parts = events.split([each.numel() for each in self.log_p])
        return [part.view_as(each) for part, each in zip(parts, self.log_p, strict=True)]


def block_rows(logits: Float[Tensor, "N C"]) -> int:
    """How many rows make a block."""
    return max(1, block_size(logits.device, BLOCK) // logits.shape[1])


def classes_first(logits: Float[Tensor, "N C"], temperature: float) -> Float[Tensor, "C N"]:
    """Log-probabilities of logits over a temperature, in double precision, finite for masked classes too."""
    return (logits.double() / temperature).log_softmax(-1).clamp(min=NEVER).t().contiguous()


def _single(log_p: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
    return log_p.clamp(min=torch.finfo(torch.float32).min).float()


def _own(log_p: Float[Tensor, "C N"], label: Int[Tensor, " N"]) -> Bool[Tensor, "C N"]:
    return torch.zeros_like(log_p, dtype=torch.bool).scatter_(0, label[None], True)
