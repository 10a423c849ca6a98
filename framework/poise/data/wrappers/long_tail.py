"""Classes that have fewer and fewer examples."""

from typing import Annotated

from annotated_types import Ge

from poise.data.dataset import Splits
from poise.data.imbalance import thinned
from poise.data.wrapper import Wrapper


class LongTail(Wrapper):
    """Class c of C keeps n·factor^(-c / (C-1)) training examples, rounded down, n those of the largest class.

    Or as many as it has, where that is less. Which ones is drawn. Only the training split changes: test, val and
    calibration stay as they are, balanced where the data are. As for CIFAR-10-LT and CIFAR-100-LT: Cao et al., Learning
    Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019, arXiv 1906.07413; after Cui et al.,
    Class-Balanced Loss Based on Effective Number of Samples, 2019, arXiv 1901.05555.

    Args:
        factor: how many times as many examples the first class has as the last.
    """

    def __init__(self, factor: Annotated[float, Ge(1)]) -> None:
        self.factor = factor

    def wrap(self, splits: Splits, seed: int) -> Splits:
        """The splits with fewer training rows.

        Raises:
            UserError: a class would be left without examples.
        """
        last = splits.num_classes - 1
        shares = [self.factor ** (-c / last) for c in range(splits.num_classes)]
        return thinned(splits, shares, seed, f"long_tail.factor={self.factor:g}")
