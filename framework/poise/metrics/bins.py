"""What bins of confidences hold."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from poise.metrics.base import LogitsMetric
from poise.number_checks import check_counts

MOST_BINS = 10_000  # of which each has its sums, for each class where classes are looked at


@dataclass(frozen=True)
class Bins:
    """Examples by how confident the prediction is. Leading axes, where there are any, are resamples of the examples.

    Args:
        counts: examples in each bin.
        confidence: their mean confidence, in 0…1; nan where there are none.
        accuracy: the share of them that is predicted right; nan where there are none.
    """

    counts: Int[Tensor, "... B"]
    confidence: Float[Tensor, "... B"]
    accuracy: Float[Tensor, "... B"]

    @classmethod
    def of_sums(
        cls, counts: Int[Tensor, "... B"], confidence: Float[Tensor, "... B"], correct: Shaped[Tensor, "... B"]
    ) -> "Bins":
        """The bins with these sums over their examples."""
        return cls(counts.clone(), confidence / counts, correct.double() / counts)

    @property
    def gaps(self) -> Float[Tensor, "... B"]:
        """How far confidence is from accuracy in each bin; nan where there are no examples."""
        return (self.confidence - self.accuracy).abs()

    @property
    def error(self) -> Float[Tensor, "..."]:
        """The mean of the gaps over examples: `sum_b n_b / N * |confidence_b - accuracy_b|`; nan without any."""
        return self._over_examples(self.gaps)

    @property
    def squared_error(self) -> Float[Tensor, "..."]:
        """The mean of the squared gaps over examples; nan without any."""
        return self._over_examples(self.gaps.square())

    @property
    def debiased_squared_error(self) -> Float[Tensor, "..."]:
        """`squared_error` less what chance adds to it: `a_b (1 - a_b) / (n_b - 1)` in a bin of accuracy a_b.

        A bin of one example adds nothing. May be below 0; nan without any example.
        """
        by_chance = self.accuracy * (1 - self.accuracy) / (self.counts - 1)
        return self._over_examples(torch.where(self.counts == 1, 0 * self.gaps, self.gaps.square() - by_chance))

    @property
    def debiased_error(self) -> Float[Tensor, "..."]:
        """`error` less what chance adds to it: twice each gap, less its mean were it true and accuracy normal about it.

        With the spread `s = sqrt(a_b (1 - a_b) / n_b)` of a bin of accuracy a_b that mean of a gap g is
        `s sqrt(2 / π) exp(-g² / 2s²) + g erf(g / (s sqrt 2))`. May be below 0; nan without any example.
        """
        spread = (self.accuracy * (1 - self.accuracy) / self.counts).sqrt()
        ratio = self.gaps / (math.sqrt(2) * spread)
        expected = spread * math.sqrt(2 / math.pi) * (-ratio.square()).exp() + self.gaps * ratio.erf()
        return self._over_examples(2 * self.gaps - torch.where(spread > 0, expected, self.gaps))

    @property
    def mean_gap(self) -> Float[Tensor, "..."]:
        """The mean of the gaps over bins that hold examples; nan where none does."""
        held = self.counts > 0
        return torch.where(held, self.gaps, 0.0).sum(-1) / held.sum(-1)

    def largest_gap(self, min_count: int) -> Float[Tensor, "..."]:
        """The largest of the gaps over bins of `min_count` examples or more; nan where none holds so many."""
        counted = self.counts >= min_count
        largest = torch.where(counted, self.gaps, -1.0).amax(-1)
        return torch.where(counted.any(-1), largest, float("nan"))

    def _over_examples(self, values: Float[Tensor, "... B"]) -> Float[Tensor, "..."]:
        """The mean over examples of what holds for those of each bin."""
        return torch.where(self.counts > 0, self.counts * values, 0.0).sum(-1) / self.counts.sum(-1)


class BinnedMetric(LogitsMetric):
    """A metric on the confidence and correctness of the predicted class, bin by bin.

    The prediction is the lowest class among those with the largest logit.

    Args:
        num_bins: number of bins, in 1…10,000.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is another number.
    """

    higher_is_better = False

    def __init__(self, num_bins: int = 15, **options: Any) -> None:
        super().__init__(**options)
        check_counts(type(self).__name__, MOST_BINS, num_bins=num_bins)
        self.num_bins = num_bins

    @property
    def bins(self) -> Bins:
        """The bins of all examples so far: over all ranks, as in `compute`, so it is asked for on all of them."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute):
            self.check_seen()
            return self.binned()

    @abstractmethod
    def binned(self) -> Bins:
        """The bins of the states as they are."""


def bin_of(values: Float[Tensor, "..."], num_bins: int) -> Int[Tensor, "..."]:
    """The bin of each value in 0…1, of num_bins equal widths: (b/B, (b+1)/B], and 0 is in the first."""
    edges = torch.arange(1, num_bins, dtype=torch.float64, device=values.device) / num_bins
    return torch.bucketize(values, edges)
