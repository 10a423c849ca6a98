"""How far a metric may be off by the chance of which examples there are."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.attacks.draws import Draws
from poise.errors import UserError
from poise.number_checks import check_counts, check_shares

Scores = Callable[[Float[Tensor, "R N"]], Mapping[str, Float[Tensor, " R"]]]
"""Scores of examples by name, for each row of numbers that say how often each example is counted."""

_ROOM = 2**20  # counts of examples that are held at a time
_MOST = 12  # times that an example is counted; more often has a probability of 1e-10


@dataclass(frozen=True)
class Interval:
    """Where a metric lies.

    Args:
        low: its lower end.
        high: its upper end.
    """

    low: float
    high: float


@dataclass(frozen=True)
class Resampled:
    """A metric of some examples, and of resamples of them.

    The difference of two that were drawn together is that of the metrics in each resample: much narrower than two
    intervals side by side look.

    Args:
        estimate: the metric of the examples.
        replicates: that of each resample.
        bounds: what the metric can't be below and above.
    """

    estimate: float
    replicates: Float[Tensor, " R"]
    bounds: tuple[float, float] = (-math.inf, math.inf)

    def __sub__(self, other: "Resampled") -> "Resampled":
        return Resampled(self.estimate - other.estimate, self.replicates - other.replicates)

    def interval(self, level: float = 0.95) -> Interval:
        """The basic interval, `2 estimate - quantile` of the replicates on the other side, cut at the bounds.

        A resample has the bias of a calibration error a second time: with 1,000 examples and an error of 0.02 the
        replicates' own quantiles hold it in 3 of 100 cases, and this interval in about 90. Those corrected for bias and
        acceleration (BCa) do no better than the former, 1 of 100: they move quantiles by the share of replicates below
        the estimate, and there are none. So this one may end below the estimate, which is too large. Where there is no
        error at all no interval is to be trusted. For means all are the same but for skewness. Resamples in which the
        metric is nan, for lack of examples, are left out. Efron, Tibshirani: An Introduction to the Bootstrap, 1993.

        Args:
            level: how often it is to hold the metric, between 0 and 1.

        Raises:
            UserError: level is another number.
        """
        check_shares("an interval", level=level)
        ends = torch.tensor([(1 + level) / 2, (1 - level) / 2], dtype=torch.float64, device=self.replicates.device)
        low, high = (2 * self.estimate - self.replicates.nanquantile(ends)).clamp(*self.bounds).tolist()
        return Interval(low, high)


def bootstrap(
    columns: Mapping[str, Scores],
    index: Int[Tensor, " N"],
    resamples: int = 1000,
    seed: int = 0,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    watch: Callable[[float], None] = lambda drawn: None,
) -> dict[str, dict[str, Resampled]]:
    """The scores of every column over resamples of the same examples, by column and score.

    In a resample each example is counted as often as a number says that is Poisson with mean 1, drawn by the seed and
    the example's position in its split. So columns are paired, and neither order nor ranks matter. Hanley, MacGibbon:
    Creating Non-Parametric Bootstrap Samples Using Poisson Frequencies, 2006. Memory beside the columns doesn't grow
    with resamples or examples.

    Args:
        columns: scores of N examples, such as those that each calibrator gives.
        index: the examples' positions in their split, all of them on every rank.
        resamples: their number, >= 1.
        seed: of the draws.
        bounds: what scores can't be below and above, where they can't be any number.
        watch: told how many more resamples are drawn, for a progress bar.

    Raises:
        UserError: there are no examples, or no resamples.
    """
    check_counts("bootstrap", resamples=resamples)
    if not len(index):
        raise UserError("There are no examples to resample: give one or more.")
    once = torch.ones(1, len(index), dtype=torch.float64, device=index.device)
    estimates = {column: scores(once) for column, scores in columns.items()}
    replicates: dict[str, list[Mapping[str, Tensor]]] = {column: [] for column in columns}
    draws, rows = Draws.of(seed, index).named("bootstrap"), max(1, _ROOM // len(index))
    for first in range(0, resamples, rows):
        times = _times(draws, first, min(rows, resamples - first))
        for column, scores in columns.items():
            replicates[column].append(scores(times))
        watch(len(times))
    return {
        column: {
            name: Resampled(
                float(estimate),
                torch.cat([part[name] for part in replicates[column]]),
                (bounds or {}).get(name, (-math.inf, math.inf)),
            )
            for name, estimate in found.items()
        }
        for column, found in estimates.items()
    }


def _times(draws: Draws, first: int, rows: int) -> Float[Tensor, "R N"]:
    """How often each example is counted in the resamples from `first` on."""
    chances = [math.exp(-1) / math.factorial(k) for k in range(_MOST)]
    below = torch.tensor(chances, dtype=torch.float64, device=draws.keys.device).cumsum(0)
    return torch.bucketize(draws.uniform(rows, first=first).double(), below, right=True).double().T
