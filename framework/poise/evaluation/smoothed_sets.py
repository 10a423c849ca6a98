"""RSCP+ with PTT on a model: sets of labels that keep their coverage within an ℓ2 ball."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from poise.conformal.robust import bernstein, hoeffding, hps, ptt, robust_sets, robust_threshold
from poise.data.dataset import Arrays
from poise.evaluation.noisy_scores import noisy_scores
from poise.evaluator import Subject
from poise.predictions import Attack

HELD_OUT = 500  # examples that PTT ranks scores by, at most, as published

Rows = Int[Tensor, " M"]


@dataclass(frozen=True)
class Smoothing:
    """How sets are made of noisy copies of an input; see `poise.conformal.robust`.

    Args:
        alpha: share of the sets, at most, without the true label.
        eps: radius of the ball, in input units.
        sigma: of the noise, in input units.
        copies: of each example.
        beta: probability, at most, that a bound fails.
    """

    alpha: float
    eps: float
    sigma: float
    copies: int
    beta: float

    def fitted(self, subject: Subject, tuning: Int[Tensor, " F"], setting: Int[Tensor, " S"]) -> "SmoothedSets":
        """The rule for a model.

        Args:
            subject: whose model it is, uncalibrated.
            tuning: positions in the calibration split that PTT is fitted to, by one noisy copy each.
            setting: positions in it that set the threshold; none of them among the others.
        """
        data = subject.splits.calibration
        one = noisy_scores(subject, data.rows(tuning), tuning, hps, self.sigma, 1, "held-out")
        transformed = ptt(_of_labels(one.mean, data, tuning), self.alpha)

        def scores(logits: Float[Tensor, "n C"]) -> Float[Tensor, "n C"]:
            return transformed(hps(logits))

        known = noisy_scores(subject, data.rows(setting), setting, scores, self.sigma, self.copies, "calibration")
        most = robust_threshold(_of_labels(known.mean, data, setting), self.alpha, self.beta)
        return SmoothedSets(self, subject, scores, most)


@dataclass(frozen=True)
class SmoothedSets:
    """The rule for a model, fitted.

    Args:
        smoothing: how it was made.
        subject: whose model it is.
        scores: of the logits of noisy copies, in [0, 1].
        most: q⁺.
    """

    smoothing: Smoothing
    subject: Subject
    scores: Callable[[Float[Tensor, "n C"]], Float[Tensor, "n C"]]
    most: float

    def sets(self, data: Arrays, index: Rows, attack: Attack | None = None) -> Bool[Tensor, "N C"]:
        """Which labels are in the set of each test example.

        Args:
            data: the examples.
            index: their positions in the test split.
            attack: what an attacker makes of them, as `predict` takes it; None for examples as they are.
        """
        how = self.smoothing
        found = noisy_scores(self.subject, data, index, self.scores, how.sigma, how.copies, "test", attack)
        above = bernstein(found.variance, how.copies, how.beta)
        return robust_sets(found.mean, above, self.most, hoeffding(how.copies, how.beta), how.eps / how.sigma)


def _of_labels(scores: Float[Tensor, "N C"], data: Arrays, rows: Rows) -> Float[Tensor, " N"]:
    return scores.gather(1, data.label.cpu()[rows, None].long())[:, 0]
