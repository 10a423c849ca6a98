"""Classes with many examples and classes with few."""

from typing import Annotated

from annotated_types import Ge

from poise.data.dataset import Splits
from poise.data.imbalance import thinned
from poise.data.wrapper import Wrapper


class StepImbalance(Wrapper):
    """The second half of the classes keeps n / factor training examples each, n those of the largest class.

    Rounded down, or as many as a class has where that is less. Which ones is drawn. The first half of the classes, the
    smaller one of an odd number, and test, val and calibration stay as they are. Buda, Maki, Mazurowski, A Systematic
    Study of the Class Imbalance Problem in Convolutional Neural Networks, 2018, arXiv 1710.05381, and Cao et al., 2019,
    arXiv 1906.07413.

    Args:
        factor: how many times as many examples a frequent class has as a rare one.
    """

    def __init__(self, factor: Annotated[float, Ge(1)]) -> None:
        self.factor = factor

    def wrap(self, splits: Splits, seed: int) -> Splits:
        """The splits with fewer training rows.

        Raises:
            UserError: a class would be left without examples.
        """
        frequent = splits.num_classes // 2
        shares = [1.0 if c < frequent else 1.0 / self.factor for c in range(splits.num_classes)]
        return thinned(splits, shares, seed, f"step_imbalance.factor={self.factor:g}")
