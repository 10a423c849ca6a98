"""Examples sorted by the confidence of their prediction, once for every metric that wants an order."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Levels:
    """How many examples have each confidence, and how many of them are predicted right.

    Examples of equal confidence stand together, so nothing hangs on the order they came in. Leading axes, where
    there are any, are resamples of the examples; in those a level may be empty.

    Args:
        confidence: the distinct confidences in rising order, in 0…1.
        counts: examples at each.
        correct: how many of them are predicted right.
    """

    confidence: Float[Tensor, " L"]
    counts: Float[Tensor, "... L"]
    correct: Float[Tensor, "... L"]

    @classmethod
    def of(
        cls, confidence: Float[Tensor, " N"], correct: Float[Tensor, " N"], times: Float[Tensor, "... N"] | None = None
    ) -> "Levels":
        """The levels of examples; `times` is how often each is counted, once where it isn't given."""
        levels, level = confidence.unique(return_inverse=True)
        counted = torch.ones_like(confidence) if times is None else times
        empty = counted.new_zeros(*counted.shape[:-1], len(levels))
        return cls(levels, empty.index_add(-1, level, counted), empty.index_add(-1, level, counted * correct))

    @property
    def size(self) -> Float[Tensor, "..."]:
        """The number of examples."""
        return self.counts.sum(-1)

    @property
    def residual(self) -> Float[Tensor, "... L"]:
        """By how much confidence exceeds correctness, summed over the examples of each level."""
        return self.counts * self.confidence - self.correct
