"""How wrong the accepted predictions are, over all thresholds."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.levels import Levels
from poise.metrics.risk_coverage import RiskCoverage
from poise.metrics.top_label import SortedMetric


class AreaUnderRiskCoverage(SortedMetric):
    """AURC: the mean over coverages of the share of accepted predictions that is wrong; in 0…1.

    Geifman, Uziel, El-Yaniv: Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers, ICLR 2019, arXiv
    1805.08206. A prediction is accepted where it is at least as confident as a threshold. The thresholds are the
    distinct confidences, risk lies on straight lines between them, and below the least coverage that a threshold
    reaches it is what it is there, as in Jaeger et al., arXiv 2211.15259, whose tables have a thousand times this.
    Other conventions break ties by the order of the examples.

    Args:
        options: of torchmetrics.Metric.
    """

    def measured(self, levels: Levels) -> Float[Tensor, "..."]:
        """The area of the examples at these levels."""
        return RiskCoverage.of(levels).area
