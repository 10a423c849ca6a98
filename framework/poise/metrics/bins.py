"""What bins of confidences hold."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from poise.errors import UserError
from poise.metrics.base import LogitsMetric


@dataclass(frozen=True)
class Bins:
    """Examples by how confident the prediction is.

    Args:
        counts: examples in each bin.
        confidence: their mean confidence, in 0…1; nan where there are none.
        accuracy: the share of them that is predicted right; nan where there are none.
    """

    counts: Int[Tensor, " B"]
    confidence: Float[Tensor, " B"]
    accuracy: Float[Tensor, " B"]

    @classmethod
    def of_sums(
        cls, counts: Int[Tensor, " B"], confidence: Float[Tensor, " B"], correct: Shaped[Tensor, " B"]
    ) -> "Bins":
        """The bins with these sums over their examples."""
        return cls(counts.clone(), confidence / counts, correct.double() / counts)

    @property
    def gaps(self) -> Float[Tensor, " B"]:
        """How far confidence is from accuracy in each bin; nan where there are no examples."""
        return (self.confidence - self.accuracy).abs()

    @property
    def error(self) -> Float[Tensor, ""]:
        """The mean of the gaps over examples: `sum_b n_b / N * |confidence_b - accuracy_b|`; nan without any."""
        return torch.where(self.counts > 0, self.counts * self.gaps, 0.0).sum() / self.counts.sum()


class BinnedMetric(LogitsMetric):
    """A metric on the confidence and correctness of the predicted class, bin by bin.

    The prediction is the lowest class among those with the largest logit.

    Args:
        num_bins: number of bins, >= 1.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is smaller.
    """

    higher_is_better = False

    def __init__(self, num_bins: int = 15, **options: Any) -> None:
        super().__init__(**options)
        check_num_bins(num_bins)
        self.num_bins = num_bins

    @property
    def bins(self) -> Bins:
        """The bins of all examples so far: over all ranks, as in `compute`, so it is asked for on all of them."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute):
            return self.binned()

    @abstractmethod
    def binned(self) -> Bins:
        """The bins of the states as they are."""


def bin_of(values: Float[Tensor, "..."], num_bins: int) -> Int[Tensor, "..."]:
    """The bin of each value in 0…1, of num_bins equal widths: (b/B, (b+1)/B], and 0 is in the first."""
    edges = torch.arange(1, num_bins, dtype=torch.float64, device=values.device) / num_bins
    return torch.bucketize(values, edges)


def check_num_bins(num_bins: int) -> None:
    """Raises UserError unless there is a bin."""
    if num_bins < 1:
        raise UserError(f"num_bins={num_bins} is not a number >= 1.")
