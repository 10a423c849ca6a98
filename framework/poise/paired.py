"""Which of two columns of logits is the more likely one, row by row, and whether these rows can tell."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Z = 1.96  # standard errors of a 95 % interval


@dataclass(frozen=True)
class Difference:
    """A mean difference over rows.

    Args:
        mean: of it; inf where one column gives a label no probability.
        margin: half of its 95 % interval, by the normal distribution; inf of one row, nan where `mean` is inf.
    """

    mean: float
    margin: float

    @property
    def clear(self) -> bool:
        """Whether its interval leaves 0 out."""
        return abs(self.mean) > self.margin or math.isinf(self.mean)


@torch.no_grad()
def losses(logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The negative log-likelihood of each row, in nats; inf where there is none."""
    likelihood = logits.double().log_softmax(-1).gather(-1, label[:, None].long())[:, 0]
    return torch.where(likelihood.isnan(), math.inf, -likelihood)


def difference(one: Float[Tensor, " N"], other: Float[Tensor, " N"]) -> Difference:
    """How much greater the one is in the mean; where both are inf it is no greater."""
    differences, size = torch.where(one == other, 0.0, one - other), len(one)
    margin = Z * float(differences.std()) / math.sqrt(size) if size > 1 else math.inf
    return Difference(float(differences.mean()), margin)
