"""How far confidence is from accuracy, without bins."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.levels import Levels
from poise.metrics.top_label import SortedMetric


class KolmogorovSmirnovError(SortedMetric):
    """Kolmogorov-Smirnov: the largest gap between summed confidence and correctness of the least confident; in 0…1.

    Gupta, Rahimi, Ajanthan, Mensink, Sminchisescu, Hartley: Calibration of Neural Networks using Splines, ICLR 2021,
    arXiv 2006.12800: `max_k |1/N sum_{i <= k} (confidence_i - correct_i)|` with examples in order of confidence. As a
    distribution function has one value for equal arguments, k goes over the ends of groups of equal confidence
    alone; the authors' code looks inside them, where the order is chance.

    Args:
        options: of torchmetrics.Metric.
    """

    def measured(self, levels: Levels) -> Float[Tensor, "..."]:
        """The error of the examples at these levels."""
        return levels.residual.cumsum(-1).abs().amax(-1) / levels.size
