"""What the quadratic score is made of."""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.metrics.classwise import ClasswiseMetric


class BrierTerms(ClasswiseMetric):
    """The Brier score's terms, class by class, over bins of each class's probability: [5], in the order of `names`.

    Murphy: A New Vector Partition of the Probability Score, 1973, for each class against the rest, summed over classes;
    the terms within bins are those of Stephenson, Coelho, Jolliffe: Two Extra Components in the Brier Score
    Decomposition, 2008. With w_ck the share of examples whose p_c is in bin k, f_ck their mean p_c and o_ck the share
    of them that is of class c, which is o_c of all:

        reliability = sum_c sum_k w_ck (f_ck - o_ck)²
        resolution  = sum_c sum_k w_ck (o_ck - o_c)²
        uncertainty = sum_c o_c (1 - o_c)
        variance    = sum_c mean of (p_c - f_ck)²
        covariance  = sum_c mean of 2 (y_c - o_ck)(p_c - f_ck)

    `Brier = reliability - resolution + uncertainty + variance - covariance`, exactly. With probabilities that are
    constant in each bin the last two are 0. `meanings` says what each is.

    Bins of the top confidence, which others take, put examples of all classes together: of balanced classes the mean
    vectors there are alike whatever the model says, and reliability and resolution come out near 0. What these bins
    do not see is how the probabilities of several classes hang together; `SquaredKernelCalibrationError` does.

    Args:
        num_classes: number of classes C.
        num_bins: number of bins of equal width, as CalibrationError has them, in 1…10,000.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_classes or num_bins is another number.
    """

    higher_is_better = None
    meanings: ClassVar = {
        "reliability": "Squared gaps of each class's probability and its frequency, bin by bin; in 0…2",
        "resolution": "How far each class's frequencies in bins are from its frequency in all; in 0…1",
        "uncertainty": "Variance of the labels alone; in 0…1",
        "variance": "Variance of each class's probability within bins; in 0…1",
        "covariance": "Twice the covariance of labels and probabilities within bins; in -2…2",
    }
    names: ClassVar = tuple(meanings)
    squares: Tensor
    products: Tensor

    def __init__(self, num_classes: int, num_bins: int = 15, **options: Any) -> None:
        super().__init__(num_classes, num_bins, **options)
        self.add_sum("squares")
        self.add_sum("products")

    def add(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add logits and labels."""
        super().add(logits, labels)
        probability = logits.double().softmax(-1)
        self.squares += probability.square().sum()
        self.products += probability.gather(1, labels[:, None]).sum()

    def result(self) -> Float[Tensor, "5"]:
        """The terms over all examples so far."""
        size, held = self.examples.double(), self.counts.clamp(min=1)
        weight = self.counts / size
        said, seen = self.probability / held, self.members.double() / held
        overall = self.members.sum(1, keepdim=True) / size
        terms = (
            (weight * (said - seen).square()).sum(),
            (weight * (seen - overall).square()).sum(),
            (overall * (1 - overall)).sum(),
            self.squares / size - (weight * said.square()).sum(),
            2 * (self.products / size - (weight * seen * said).sum()),
        )
        return torch.stack(terms)
