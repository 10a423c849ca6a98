"""Examples in the order of a score, and what selecting among them leaves wrong."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from poise.batch import Predictions
from poise.data.dataset import Arrays
from poise.evaluation.features import scored
from poise.evaluation.risk_target import Selection
from poise.evaluator import Subject
from poise.metrics.levels import Levels
from poise.metrics.risk_coverage import RiskCoverage
from poise.predictions import predict
from poise.uncertainty.class_centroids import ClassCentroids
from poise.uncertainty.msp import msp

Key = tuple[str, str]  # alias of the calibrator, "" before calibration, and the score


@dataclass(frozen=True)
class Ranked:
    """Examples of a split with a score of each.

    Args:
        strangeness: the higher, the sooner an answer is withheld.
        wrong: whether it is wrong.
    """

    strangeness: Float[Tensor, " N"]
    wrong: Bool[Tensor, " N"]

    @property
    def curve(self) -> RiskCoverage:
        """What is accepted and wrong at every threshold."""
        return RiskCoverage.of(Levels.of(-self.strangeness, (~self.wrong).double()))

    def metrics(self, target: float) -> dict[str, float]:
        """`aurc`, `augrc` and, where there is such a threshold, `coverage_at_risk`, chosen in hindsight."""
        curve = self.curve
        allowed = curve.coverage[curve.risk <= target]
        areas = {"aurc": float(curve.area), "augrc": float(curve.generalised_area)}
        return areas | ({"coverage_at_risk": float(allowed.max())} if len(allowed) else {})

    def accepted(self, by: Selection) -> tuple[int, int]:
        """How many are accepted, and how many of those are wrong."""
        accepts = by.accepts(self.strangeness)
        return int(accepts.sum()), int((accepts & self.wrong).sum())

    def outcome(self, by: Selection) -> dict[str, float]:
        """`coverage`, and `risk` where something is accepted."""
        count, wrong = self.accepted(by)
        return {"coverage": count / len(self.wrong)} | ({"risk": wrong / count} if count else {})


def ranked(subject: Subject, split: str, data: Arrays, centroids: ClassCentroids | None) -> dict[Key, Ranked]:
    """By every score, `msp` before and after each calibrator and `centroid` before; call on all ranks."""
    with subject.progress(f"evaluate {split}", len(data)) as done:
        seen = predict(subject.model, data, subject.ranks, batch_size=subject.batch_size, watch=done)
    found = {
        (prefix.removeprefix(split).strip("/"), "msp"): _ranked(msp(column.logits), column)
        for prefix, column in subject.columns(split, seen)
    }
    if centroids is not None and seen.features is not None:
        strangeness = scored(subject, centroids, seen.features, seen.logits.argmax(1))
        found["", "centroid"] = _ranked(strangeness, seen)
    return found


def _ranked(strangeness: Float[Tensor, " N"], seen: Predictions) -> Ranked:
    """What is no number is withheld first."""
    return Ranked(strangeness.nan_to_num(math.inf, math.inf, -math.inf), ~seen.right)


def thinned(curve: RiskCoverage, most: int = 400) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coverage and risk at every threshold, or at evenly spread ones if there are more."""
    size = len(curve.accepted)
    count = min(most, size)
    some = torch.arange(count) * (size - 1) // max(1, count - 1)
    return tuple(curve.coverage[some].tolist()), tuple(curve.risk[some].tolist())
