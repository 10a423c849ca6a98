"""Accuracy and calibration on inputs as they are."""

from typing import Annotated

from annotated_types import Ge, Le

from poise.breakdown import breakdowns
from poise.data.dataset import Arrays
from poise.evaluator import Drawing, Evaluator, Findings, Subject
from poise.figures.reliability import Column, Reliability, column
from poise.metrics.summary import summarised
from poise.predictions import predict
from poise.scores import UNCALIBRATED
from poise.shifts import with_means


class Clean(Evaluator):
    """Accuracy, NLL (nats), Brier score, calibration errors, and accuracy of each class and group.

    `ece` has bins of equal width and `ece_equal_mass` bins of equally many examples; `classwise_ece` looks at every
    class's probability, the others at that of the predicted class. `mce` is the largest gap of a bin with ten or more
    examples, `confidence` the mean probability of the predicted class, `changed_predictions` the share of rows
    whose class a calibrator changes that may. The figures are a reliability diagram and bars of the accuracy of each
    class and each group. Of named shifts the mean of each score is told as well, with bars of the accuracy on each.

    Args:
        bins: confidence bins of the calibration errors.
    """

    def __init__(self, bins: Annotated[int, Ge(1), Le(1000)] = 15) -> None:
        self.bins = bins

    def evaluate(self, subject: Subject) -> Findings:
        """`<split>/<metric>` before calibration and `<split>/<calibrator>/<metric>` after each calibrator.

        `shifts/<metric>` and `shifts/<calibrator>/<metric>` are means over the named shifts.
        """
        found = {split: self._split(subject, split, data) for split, data in subject.tests()}
        return with_means(found, subject.splits.shifts)

    def _split(self, subject: Subject, split: str, data: Arrays) -> Findings:
        with subject.progress(f"evaluate {split}", len(data)) as done:
            seen = predict(subject.model, data, subject.ranks, batch_size=subject.batch_size, watch=done)
        parts = list(breakdowns(subject.splits, data))
        metrics: dict[str, float] = {}
        meanings: dict[str, str] = {}
        columns: list[Column] = []
        for prefix, told in subject.columns(split, seen):
            summary = summarised(told.logits, told.label, self.bins)
            metrics |= {f"{prefix}/{name}": value for name, value in summary.scores.items()}
            meanings |= {name: summary.meanings[name] for name in summary.scores}
            for breakdown in parts:
                metrics |= breakdown.metrics(prefix, "accuracy", told.right)
                meanings |= breakdown.meanings("accuracy")
            calibrator = prefix.removeprefix(split).strip("/")
            if calibrator and not subject.calibrators[calibrator].keeps_prediction:
                changed = told.logits.argmax(1) != seen.logits.argmax(1)
                metrics[f"{prefix}/changed_predictions"] = float(changed.double().mean())
                meanings["changed_predictions"] = "Share of the rows whose class the calibrator changes"
            columns.append(column(calibrator or UNCALIBRATED, summary))
        bars = {f"{split}-accuracy-by-{part.kind}": part.drawing(split, clean=seen.right) for part in parts}
        figures: dict[str, Drawing] = {f"{split}-reliability": Reliability(split, tuple(columns)), **bars}
        return Findings(metrics, figures, meanings=meanings)
