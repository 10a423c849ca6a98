"""Whether probabilities mean what they say: clean, attacked and under shift, before and after each calibrator."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor

from poise.attacks.pgd import PGD
from poise.batch import Predictions
from poise.breakdown import Breakdown, breakdowns
from poise.data.dataset import Arrays
from poise.errors import UserError
from poise.evaluator import Evaluator, Findings, Subject
from poise.figures.reliability import Column, Reliability, column
from poise.figures.reliability_curves import ReliabilityCurves
from poise.intervals import interval_table
from poise.meanings import meaning
from poise.metrics import (
    AreaUnderGeneralisedRiskCoverage,
    AreaUnderRiskCoverage,
    AverageCalibrationError,
    BrierTerms,
    CalibrationError,
    ClasswiseCalibrationError,
    DebiasedCalibrationError,
    DebiasedSquaredCalibrationError,
    KDECalibrationError,
    KolmogorovSmirnovError,
    MaximumMeanCalibrationError,
    RootMeanSquareCalibrationError,
    SmoothCalibrationError,
    SquaredKernelCalibrationError,
    SweepCalibrationError,
    ThresholdedClasswiseCalibrationError,
    TotalClasswiseCalibrationError,
)
from poise.metrics.base import LogitsMetric
from poise.metrics.summary import summarised
from poise.predictions import predict
from poise.resamples import too_few
from poise.robustness.left import left_by
from poise.scores import TEST, UNCALIBRATED, Row, Table
from poise.shifts import with_means

WHOLE = {"sync_on_compute": False}  # predictions are of all ranks
GAP = "Mean confidence less accuracy: above 0 is over-confident"
KERNEL = 5000  # examples of the kernel calibration error, whose time grows with their square


class Calibration(Evaluator):
    """Calibration errors of every kind, of classes, groups and shifts, and under attack.

    Beside the scores of `clean`: `ece_rms` and `ece_debiased_squared` are of the squared gaps, `ece_debiased` is
    without what chance adds, `ace` the mean over bins, `ece_sweep` finds the number of bins, and `ks`, `smooth_ece`,
    `kde_ece`, `top_label_mmce` and `skce` need none (debiased ones may be below 0, as may `skce`, which is of up to
    5,000 examples); `classwise_ece_total` is the sum over classes, `classwise_ece_thresholded` is of probabilities that
    are not negligible; `brier_…` are the terms of the Brier score, class by class; `aurc` and `augrc` tell how well
    confidence sorts right from wrong. `confidence_gap` is mean confidence less accuracy: above 0 is over-confident. Of
    each class the error of its own probability is told, of each group that of the predictions. With `attacked`
    everything is told of what the model says under PGD as well, as `attacked_…`; the attack sees the uncalibrated
    model.

    The figures are reliability diagrams, and the curves of test, shifts and attack in one.

    Cost: that of `clean`, and with `attacked` `steps` gradients of each example.

    Args:
        bins: confidence bins of the errors that have bins.
        attacked: whether inputs are attacked as well.
        steps: of PGD on the cross-entropy, gradients of one random start.
        bootstrap: resamples behind the intervals of test's scores, which have a table, 100 or more; 0 for none.
    """

    def __init__(
        self,
        bins: Annotated[int, Ge(1), Le(1000)] = 15,
        attacked: bool = False,
        steps: Annotated[int, Ge(1)] = 20,
        bootstrap: Annotated[int, Ge(0), Le(1_000_000)] = 1000,
    ) -> None:
        if wrong := too_few(bootstrap):
            raise UserError(f"bootstrap={bootstrap}: {wrong}.")
        self.bins = bins
        self.bootstrap = bootstrap
        self.attacked = attacked
        self.steps = steps

    def evaluate(self, subject: Subject) -> Findings:
        """`<split>/<metric>`, `<split>/<calibrator>/<metric>`, `…/classwise_ece/class/<name>`, `…/ece/group/<name>` and
        the same with `attacked_` before each metric; a table of the errors by calibrator and source.
        """
        found: dict[str, Findings] = {}
        sources: dict[str, dict[str, Column]] = {}
        for split, data in subject.tests():
            parts = []
            for source, seen in self._sources(subject, split, data).items():
                findings, columns = self._measured(subject, split, source, data, seen)
                sources[f"{split}, attacked" if source else split] = columns
                parts.append(findings)
                if self.bootstrap and split == TEST and not source:
                    parts.append(self._with_intervals(subject, seen))
            found[split] = Findings.merged(parts)
        together = Findings(
            figures={"test-calibration-curves": ReliabilityCurves(sources)},
            tables={"test-calibration": _table(sources, f"; attacked: {self._attack(subject)}" * self.attacked)},
        )
        return Findings.merged([with_means(found, subject.splits.shifts), together])

    def _with_intervals(self, subject: Subject, seen: Predictions) -> Findings:
        columns = {name.removeprefix(TEST).strip("/"): told.logits for name, told in subject.columns(TEST, seen)}
        columns = {name or UNCALIBRATED: logits for name, logits in columns.items()}
        table = interval_table(
            "test, with intervals", columns, seen.label, seen.index, self.bins, self.bootstrap, subject.seed
        )
        return Findings(tables={"test-intervals": table})

    def _sources(self, subject: Subject, split: str, data: Arrays) -> Mapping[str, Predictions]:
        """What the model says of inputs as they are and, where asked, under attack, by the prefix of metrics."""
        with subject.progress(f"evaluate {split}", len(data)) as done:
            seen = {"": predict(subject.model, data, subject.ranks, batch_size=subject.batch_size, watch=done)}
        if self.attacked:
            attack = PGD(subject.threat, self.steps)
            left = left_by(subject, data, attack, torch.arange(len(data)), f"attack {split}")
            seen["attacked_"] = left.seen
        return seen

    def _attack(self, subject: Subject) -> str:
        """What is done to attacked inputs."""
        return f"under PGD of {self.steps} steps, {subject.threat}"

    def _measured(
        self, subject: Subject, split: str, source: str, data: Arrays, seen: Predictions
    ) -> tuple[Findings, dict[str, Column]]:
        """All numbers of one split's predictions, and the columns of its diagram by calibrator."""
        metrics: dict[str, float] = {}
        meanings = {f"{source}…": f"The same {self._attack(subject)}"} if source else {}
        columns: dict[str, Column] = {}
        for prefix, told in subject.columns(split, seen):
            summary = summarised(told.logits, told.label, self.bins)
            scores = {**summary.scores, **further_scores(told.logits, told.label, self.bins)}
            if "confidence" in scores:  # which a model without finite probabilities has none of
                scores["confidence_gap"] = scores["confidence"] - scores["accuracy"]
            if not source:
                known = {**summary.meanings, **further_meanings(told.logits.shape[1]), "confidence_gap": GAP}
                meanings |= {name: known[name] for name in scores}
            for breakdown in breakdowns(subject.splits, data):
                scores |= self._of_parts(breakdown, told)
            metrics |= {f"{prefix}/{source}{name}": value for name, value in scores.items()}
            name = prefix.removeprefix(split).strip("/") or UNCALIBRATED
            columns[name] = column(name, summary)
        title = f"{split}, attacked" if source else split
        drawing = Reliability(title, tuple(columns.values()))
        name = f"{split}-{source.replace('_', '-')}reliability"
        return Findings(metrics, {name: drawing}, meanings=meanings), columns

    def _of_parts(self, breakdown: Breakdown, told: Predictions) -> dict[str, float]:
        """Of each class the error of its own probability, of each group that of the predictions."""
        if breakdown.kind == "class":
            metric = ClasswiseCalibrationError(told.logits.shape[1], self.bins, sync_on_compute=False)
            metric.add(told.logits, told.label)
            errors = dict(zip(breakdown.names, metric.errors().tolist(), strict=True))
            return {f"classwise_ece/class/{name}": error for name, error in errors.items() if not math.isnan(error)}
        found = {}
        for place, name in enumerate(breakdown.names):
            rows = breakdown.member == place
            if rows.any():
                error = CalibrationError(self.bins, sync_on_compute=False)
                error.add(told.logits[rows], told.label[rows])
                found[f"ece/group/{name}"] = float(error.compute())
        return found


def further_scores(logits: Float[Tensor, "N C"], label: Int[Tensor, " N"], bins: int) -> dict[str, float]:
    """What `summarised` leaves out, by name."""
    classes = logits.shape[1]
    some = torch.arange(min(len(label), KERNEL)) * len(label) // min(len(label), KERNEL)
    found = {}
    for name, measure in _further(classes, bins).items():
        rows = some if name == "skce" else slice(None)
        measure.add(logits[rows], label[rows])
        found[name] = float(measure.compute())
    terms = BrierTerms(classes, bins, **WHOLE)
    terms.add(logits, label)
    found |= {f"brier_{name}": float(term) for name, term in zip(BrierTerms.names, terms.compute(), strict=True)}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def further_meanings(classes: int) -> dict[str, str]:
    """What each of `further_scores` means, in a line."""
    of_terms = {f"brier_{name}": told for name, told in BrierTerms.meanings.items()}
    return {name: meaning(measure) for name, measure in _further(classes).items()} | of_terms


def _further(classes: int, bins: int = 15) -> dict[str, LogitsMetric]:
    """The metrics of one number each."""
    return {
        "ece_rms": RootMeanSquareCalibrationError(bins, **WHOLE),
        "ece_debiased": DebiasedCalibrationError(bins, **WHOLE),
        "ece_debiased_squared": DebiasedSquaredCalibrationError(bins, **WHOLE),
        "ace": AverageCalibrationError(bins, **WHOLE),
        "ece_sweep": SweepCalibrationError(**WHOLE),
        "ks": KolmogorovSmirnovError(**WHOLE),
        "smooth_ece": SmoothCalibrationError(**WHOLE),
        "kde_ece": KDECalibrationError(**WHOLE),
        "top_label_mmce": MaximumMeanCalibrationError(**WHOLE),
        "classwise_ece_total": TotalClasswiseCalibrationError(classes, bins, **WHOLE),
        "classwise_ece_thresholded": ThresholdedClasswiseCalibrationError(classes, bins, **WHOLE),
        "aurc": AreaUnderRiskCoverage(**WHOLE),
        "augrc": AreaUnderGeneralisedRiskCoverage(**WHOLE),
        "skce": SquaredKernelCalibrationError(classes, **WHOLE),
    }


def _table(sources: Mapping[str, Mapping[str, Column]], attacked: str) -> Table:
    """A line for each calibrator, a column for each source: ECE, and confidence less accuracy.

    Args:
        sources: by name, their columns by calibrator.
        attacked: what is said of attacked sources.
    """
    names = next(iter(sources.values()))
    rows = (Row(name, tuple(_cell(columns[name]) for columns in sources.values())) for name in names)
    note = f"ECE (mean confidence less accuracy, in points: above 0 is over-confident){attacked}"
    return Table(f"{TEST}, calibration", ("calibrator", *sources), tuple(rows), note)


def _cell(told: Column) -> str:
    error = dict(told.scores).get("ECE")
    return "" if error is None else f"{error:.4f} ({100 * sum(_gaps(told)) / sum(told.counts):+.1f})"


def _gaps(told: Column) -> Iterator[float]:
    """Of each bin that has examples, the sum of their confidence less that of those that are right."""
    for count, confidence, accuracy in zip(told.counts, told.confidence, told.accuracy, strict=True):
        if count:
            yield count * (confidence - accuracy)
