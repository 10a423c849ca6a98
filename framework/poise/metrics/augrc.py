"""How often a wrong prediction is accepted, over all thresholds."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.levels import Levels
from poise.metrics.risk_coverage import RiskCoverage
from poise.metrics.top_label import SortedMetric


class AreaUnderGeneralisedRiskCoverage(SortedMetric):
    """AUGRC: the mean over coverages of the share of all predictions that is accepted and wrong; in 0…0.5.

    Traub, Bungert, Lüth, Baumgartner, Maier-Hein, Maier-Hein, Jaeger: Overcoming Common Flaws in the Evaluation of
    Selective Classification Systems, NeurIPS 2024, arXiv 2407.01032, whose tables have a thousand times this. The
    thresholds are the distinct confidences. With A the share of pairs of a right and a wrong prediction in which the
    right one is more confident, equal ones half, it is `(1 - A) accuracy (1 - accuracy) + (1 - accuracy)² / 2`; the
    second term is what no order of confidences can be better than.

    Args:
        options: of torchmetrics.Metric.
    """

    def measured(self, levels: Levels) -> Float[Tensor, "..."]:
        """The area of the examples at these levels."""
        return RiskCoverage.of(levels).generalised_area
