"""What selection by confidence leaves and what goes wrong in it, threshold by threshold."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from poise.metrics.levels import Levels


@dataclass(frozen=True)
class RiskCoverage:
    """The predictions that are accepted at each distinct threshold of confidence, from the highest down.

    Args:
        accepted: how many there are at least so confident; leading axes, where there are any, are resamples.
        errors: how many of them are wrong.
    """

    accepted: Float[Tensor, "... L"]
    errors: Float[Tensor, "... L"]

    @classmethod
    def of(cls, levels: Levels) -> "RiskCoverage":
        """The thresholds of examples at these levels."""
        wrong = levels.counts - levels.correct
        return cls(levels.counts.flip(-1).cumsum(-1), wrong.flip(-1).cumsum(-1))

    @property
    def coverage(self) -> Float[Tensor, "... L"]:
        """The share of all examples that is accepted, in 0…1."""
        return self.accepted / self.accepted[..., -1:]

    @property
    def risk(self) -> Float[Tensor, "... L"]:
        """The share of the accepted that is wrong, in 0…1; nan where none is accepted."""
        return self.errors / self.accepted

    @property
    def area(self) -> Float[Tensor, "..."]:
        """Under risk over coverage, by trapezoids; before the first threshold risk is what it is there."""
        risk, coverage = self.risk, self.coverage
        earlier = torch.cat([risk[..., :1], risk[..., :-1]], -1)
        mean = (risk + torch.where(earlier.isnan(), risk, earlier)) / 2
        gained = coverage.diff(dim=-1, prepend=torch.zeros_like(coverage[..., :1]))
        return torch.where(gained > 0, gained * mean, 0.0).sum(-1)

    @property
    def generalised_area(self) -> Float[Tensor, "..."]:
        """Under the share of all examples that is accepted and wrong, over coverage, by trapezoids from (0, 0)."""
        share, coverage = self.errors / self.accepted[..., -1:], self.coverage
        start = torch.zeros_like(coverage[..., :1])
        return torch.trapezoid(torch.cat([start, share], -1), torch.cat([start, coverage], -1))
