"""How many predictions can be accepted at a risk."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from poise.errors import UserError
from poise.metrics.levels import Levels
from poise.metrics.risk_coverage import RiskCoverage
from poise.metrics.top_label import SortedMetric
from poise.number_checks import is_number


class CoverageAtRisk(SortedMetric):
    """The largest share of predictions that a threshold of confidence accepts with no more than a risk; in 0…1.

    Geifman, El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017, arXiv 1705.08500. The risk is
    the share of accepted predictions that is wrong. It may fall again with coverage, so every threshold is looked
    at. This says what would have held on these examples, and promises nothing for others. nan where no threshold
    has so low a risk.

    Args:
        risk: not to be exceeded, in 0…1.
        options: of torchmetrics.Metric.

    Raises:
        UserError: risk is another number.
    """

    higher_is_better = True

    def __init__(self, risk: float, **options: Any) -> None:
        super().__init__(**options)
        if not is_number(risk) or not 0 <= risk <= 1:
            raise UserError(f"risk={risk!r} is not a number in 0…1.")
        self.risk = risk

    def measured(self, levels: Levels) -> Float[Tensor, "..."]:
        """The coverage of the examples at these levels."""
        curve = RiskCoverage.of(levels)
        allowed = curve.risk <= self.risk
        most = torch.where(allowed, curve.coverage, 0.0).amax(-1)
        return torch.where(allowed.any(-1), most, float("nan"))
