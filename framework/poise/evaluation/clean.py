"""Accuracy and calibration on inputs as they are."""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge

from poise.batch import Predictions
from poise.breakdown import breakdowns
from poise.data.dataset import Arrays
from poise.evaluator import Evaluator, Findings, Subject
from poise.figures.reliability import Column, Reliability
from poise.metrics import (
    Accuracy,
    Bins,
    Brier,
    CalibrationError,
    ClasswiseCalibrationError,
    EqualMassCalibrationError,
    MaximumCalibrationError,
    NegativeLogLikelihood,
)
from poise.predictions import predict
from poise.scores import UNCALIBRATED


class Clean(Evaluator):
    """Accuracy, NLL (nats), Brier score, calibration errors, and accuracy of each class and group.

    `ece` has bins of equal width and `ece_equal_mass` bins of equally many examples; `classwise_ece` looks at every
    class's probability, the others at that of the predicted class. `mce` is the largest gap of a bin with ten or more
    examples, `confidence` the mean probability of the predicted class. The figures are a reliability diagram and bars
    of the accuracy of each class and each group.

    Args:
        bins: confidence bins of the calibration errors.
    """

    def __init__(self, bins: Annotated[int, Ge(1)] = 15) -> None:
        self.bins = bins

    def evaluate(self, subject: Subject) -> Findings:
        """`<split>/<metric>` before calibration and `<split>/<calibrator>/<metric>` after each calibrator."""
        return Findings.merged(self._split(subject, split, data) for split, data in subject.tests())

    def _split(self, subject: Subject, split: str, data: Arrays) -> Findings:
        with subject.progress(f"evaluate {split}", len(data)) as done:
            seen = predict(subject.model, data, subject.ranks, watch=done)
        parts = list(breakdowns(subject.splits, data))
        metrics: dict[str, float] = {}
        columns: list[Column] = []
        for prefix, column in subject.columns(split, seen):
            scores, bins = self._scores(column)
            metrics |= {f"{prefix}/{name}": value for name, value in scores.items()}
            for breakdown in parts:
                metrics |= breakdown.metrics(prefix, "accuracy", column.right)
            columns.append(_column(prefix, split, bins, scores))
        bars = {f"{split}-accuracy-by-{part.kind}": part.drawing(split, clean=seen.right) for part in parts}
        return Findings(metrics, {f"{split}-reliability": Reliability(split, tuple(columns)), **bars})

    def _scores(self, seen: Predictions) -> tuple[dict[str, float], Bins]:
        """The scores that are numbers, and the bins of the ECE."""
        whole: dict[str, Any] = {"sync_on_compute": False}  # the predictions are those of all ranks already
        ece = CalibrationError(self.bins, **whole)
        measures = {
            "accuracy": Accuracy(**whole),
            "nll": NegativeLogLikelihood(**whole),
            "brier": Brier(**whole),
            "ece": ece,
            "ece_equal_mass": EqualMassCalibrationError(self.bins, **whole),
            "classwise_ece": ClasswiseCalibrationError(seen.logits.shape[1], self.bins, **whole),
            "mce": MaximumCalibrationError(self.bins, **whole),
        }
        for measure in measures.values():
            measure.update(seen.logits, seen.label)
        scores = {name: float(measure.compute()) for name, measure in measures.items()}
        scores["confidence"] = float(seen.logits.double().softmax(1).amax(1).mean())
        return {name: score for name, score in scores.items() if not math.isnan(score)}, ece.bins


def _column(prefix: str, split: str, bins: Bins, scores: Mapping[str, float]) -> Column:
    return Column(
        name=prefix.removeprefix(split).strip("/") or UNCALIBRATED,
        counts=tuple(bins.counts.tolist()),
        confidence=tuple(bins.confidence.tolist()),
        accuracy=tuple(bins.accuracy.tolist()),
        scores=(("ECE", scores["ece"]), ("NLL", scores["nll"])),
    )
