"""Whom to believe so that few of the answers that are given are wrong."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from poise.evaluation.certificates import lower_bound

COVERAGES = 20  # shares of the examples that are tried, evenly spaced up to all
DOUBLINGS = 10  # of the examples, up to which it is asked whether more of them would do


@dataclass(frozen=True)
class Selection:
    """The examples that are accepted: those less strange than a threshold.

    Args:
        threshold: of a score that is the higher the stranger; inf accepts all, -inf none.
        bound: what is promised of the share of wrong ones among the accepted; nan where nothing is.
        enough: where nothing is, about how many examples would do; None where it is not known.
    """

    threshold: float
    bound: float
    enough: int | None = None

    @property
    def promises(self) -> bool:
        """Whether there is a bound."""
        return not math.isnan(self.bound)

    def accepts(self, strangeness: Float[Tensor, " N"]) -> Bool[Tensor, " N"]:
        """Which of the examples are accepted."""
        return strangeness < self.threshold


def selection(strangeness: Float[Tensor, " N"], wrong: Bool[Tensor, " N"], target: float, alpha: float) -> Selection:
    """The largest share of examples that is wrong in no more than the target; none where nothing can be promised.

    For examples drawn as these are, the risk of what the threshold accepts is above the target with a probability of
    alpha at most. Thresholds leave 5 %, 10 % … 100 % of the examples below them; of those each the errors are binomial,
    and the bound is Clopper and Pearson's at alpha / 20.

    Source: Geifman, El-Yaniv, Selective Classification for Deep Neural Networks, 2017, arXiv 1705.08500. Departure: 20
    shares that are fixed beforehand, where the paper searches by halves: which thresholds that tries hangs on the
    examples, and its sum of probabilities is over those tried alone.

    Args:
        strangeness: of held-out examples.
        wrong: which of them are predicted wrong.
        target: risk in (0, 1).
        alpha: in (0, 1).
    """
    for threshold, accepted, errors in _shares(strangeness, wrong):
        bound = upper_bound(errors, accepted, alpha / COVERAGES)
        if bound <= target:
            return Selection(threshold, bound)
    return Selection(-math.inf, math.nan, enough(strangeness, wrong, target, alpha))


def fewest(target: float, alpha: float) -> int:
    """How many examples a promise takes at least, none of them wrong: ⌈log(alpha / 20) / log(1 - target)⌉."""
    return math.ceil(math.log(alpha / COVERAGES) / math.log1p(-target))


def enough(strangeness: Float[Tensor, " N"], wrong: Bool[Tensor, " N"], target: float, alpha: float) -> int | None:
    """How many examples would promise something, errors being as frequent as among these; within a factor of two.

    None where 1024 times as many would not do: of no share is the risk below the target by enough. Arguments as of
    `selection`.
    """
    shares = [(accepted, errors) for _, accepted, errors in _shares(strangeness, wrong) if accepted]
    for factor in (2**power for power in range(1, DOUBLINGS + 1)):
        bounds = (upper_bound(factor * errors, factor * accepted, alpha / COVERAGES) for accepted, errors in shares)
        if any(bound <= target for bound in bounds):
            return factor * len(strangeness)
    return None


def upper_bound(wrong: int, accepted: int, alpha: float) -> float:
    """What the risk is at most, by Clopper and Pearson, wrong with a probability of alpha; 1 where none is accepted."""
    return 1 - float(lower_bound(torch.tensor([accepted - wrong]), max(accepted, 1), alpha))


def _shares(strangeness: Tensor, wrong: Tensor) -> Iterator[tuple[float, int, int]]:
    """Thresholds, how many examples each accepts, and how many of those are wrong; the largest share first."""
    ranked = torch.cat([strangeness.sort().values, strangeness.new_tensor([math.inf])])
    for place in range(COVERAGES, 0, -1):
        threshold = float(ranked[place * len(strangeness) // COVERAGES])
        accepted = strangeness < threshold
        yield threshold, int(accepted.sum()), int((wrong & accepted).sum())
