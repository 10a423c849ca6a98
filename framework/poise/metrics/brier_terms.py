"""What the quadratic score is made of."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.metrics.base import LogitsMetric
from poise.metrics.bins import bin_of, check_num_bins


class BrierTerms(LogitsMetric):
    """The Brier score's terms over bins of the top confidence: [5], in the order of `names`.

    Murphy: A New Vector Partition of the Probability Score, 1973; the terms within bins are those of Stephenson,
    Coelho, Jolliffe: Two Extra Components in the Brier Score Decomposition, 2008. With w_k the share of examples in bin
    k, mean probabilities f_k and class frequencies o_k there, o those of all, vectors over classes:

        reliability = sum_k w_k |f_k - o_k|²
        resolution  = sum_k w_k |o_k - o|²
        uncertainty = sum_c o_c (1 - o_c)
        variance    = mean of |p_i - f_k|²
        covariance  = mean of 2 (y_i - o_k)(p_i - f_k)

    `Brier = reliability - resolution + uncertainty + variance - covariance`, exactly. With probabilities that are
    constant in each bin the last two are 0. `meanings` says what each is.

    Args:
        num_classes: number of classes C.
        num_bins: number of bins of equal width, as CalibrationError has them, in 1…10,000.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is another number.
    """

    meanings: ClassVar = {
        "reliability": "How far probabilities are from frequencies, in bins of the top confidence; in 0…2",
        "resolution": "How far the frequencies of bins are apart; in 0…1",
        "uncertainty": "Variance of the labels alone; in 0…1",
        "variance": "Variance of the probabilities within bins; in 0…1",
        "covariance": "Twice the covariance of labels and probabilities within bins; in -2…2",
    }
    names: ClassVar = tuple(meanings)
    num_classes: int
    counts: Tensor
    probability: Tensor
    members: Tensor
    squares: Tensor
    products: Tensor

    def __init__(self, num_classes: int, num_bins: int = 15, **options: Any) -> None:
        super().__init__(**options)
        check_num_bins(num_bins)
        self.num_classes = num_classes
        self.num_bins = num_bins
        self.add_count("counts", num_bins)
        self.add_sum("probability", num_bins, num_classes)
        self.add_count("members", num_bins, num_classes)
        self.add_sum("squares")
        self.add_sum("products")

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        probability = logits.double().softmax(-1)
        member = one_hot(labels, self.num_classes)
        place = bin_of(probability.amax(-1), self.num_bins)
        self.counts += place.bincount(minlength=self.num_bins)
        self.probability = self.probability.index_add(0, place, probability)
        self.members = self.members.index_add(0, place, member)
        self.squares += probability.square().sum()
        self.products += probability.gather(1, labels[:, None]).sum()

    def result(self) -> Float[Tensor, "5"]:
        """The terms over all examples so far."""
        size = self.counts.sum().double()
        weight = self.counts / size
        held = self.counts.clamp(min=1)[:, None]
        said, seen = self.probability / held, self.members.double() / held
        overall = self.members.sum(0) / size
        terms = (
            (weight * (said - seen).square().sum(1)).sum(),
            (weight * (seen - overall).square().sum(1)).sum(),
            (overall * (1 - overall)).sum(),
            self.squares / size - (weight * said.square().sum(1)).sum(),
            2 * (self.products / size - (weight * (seen * said).sum(1)).sum()),
        )
        return torch.stack(terms)
