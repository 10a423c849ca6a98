"""How wrong predictions are where so many of them are accepted."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from poise.errors import UserError
from poise.metrics.levels import Levels
from poise.metrics.risk_coverage import RiskCoverage
from poise.metrics.top_label import SortedMetric
from poise.number_checks import is_number


class RiskAtCoverage(SortedMetric):
    """The share of accepted predictions that is wrong, at the highest threshold that accepts enough; in 0…1.

    Geifman, El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017, arXiv 1705.08500. A threshold
    accepts all predictions that are equally confident or none, so more may be accepted than are asked for.

    Args:
        coverage: the share of all predictions to be accepted at least, above 0, at most 1.
        options: of torchmetrics.Metric.

    Raises:
        UserError: coverage is another number.
    """

    def __init__(self, coverage: float, **options: Any) -> None:
        super().__init__(**options)
        if not is_number(coverage) or not 0 < coverage <= 1:
            raise UserError(f"coverage={coverage!r} is not a number above 0 and at most 1.")
        self.coverage = coverage

    def measured(self, levels: Levels) -> Float[Tensor, "..."]:
        """The risk of the examples at these levels."""
        curve = RiskCoverage.of(levels)
        first = (curve.coverage < self.coverage).sum(-1, keepdim=True)
        return curve.risk.gather(-1, first).squeeze(-1)
