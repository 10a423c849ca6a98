"""What is to be told from test examples, how well each score does it, and that as numbers, tables and panels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from poise.evaluation.strangeness import Judged
from poise.evaluator import Findings
from poise.figures.detection import Curve, Panel
from poise.meanings import meaning
from poise.scores import TEST, Row, Table
from poise.uncertainty.detection import Detection, detection

Columns = Mapping[str, Judged]  # of the report: `test`, `test/<calibrator>`

CONFIDENT = 0.9  # probability of the predicted class
FAILURES = "failures"
KINDS = {"ood": "semantic shift", "shift": "covariate shift", FAILURES: "failures"}
COUNTS = "right/wrong"  # a heading of the table of failures
HEADINGS = {
    "auroc": "AUROC",
    "aupr_out": "AUPR out",
    "aupr_in": "AUPR in",
    "fpr_at_95_id_recall": "FPR, 95 % in",
    "fpr_at_95_ood_recall": "FPR, 95 % out",
}


@dataclass(frozen=True)
class Comparison:
    """Usual and strange examples, and how well each score tells them apart.

    Args:
        kind: one of KINDS.
        name: of the strange ones' split; "" for failures, of which there is one kind.
        by: by the report's column and the score.
    """

    kind: str
    name: str
    by: Mapping[tuple[str, str], Detection]

    def metrics(self) -> dict[str, float]:
        """`<column>/<kind>/<name>/<score>/<metric>`, without a name where there is none."""
        where = f"{self.kind}/{self.name}" if self.name else self.kind
        return {
            f"{column}/{where}/{score}/{metric}": value
            for (column, score), found in self.by.items()
            for metric, value in found.scores().items()
        }

    def table(self) -> Table:
        """A line for each score."""
        rows = {
            _told(column, score): tuple(f"{value:.4f}" for value in found.scores().values())
            for (column, score), found in self.by.items()
        }
        if self.kind == FAILURES:
            return self._of_failures(rows)
        title = f"{TEST}, {KINDS[self.kind]}, {self.name}: {self._usual:,} usual, {self._strange:,} strange"
        lines = tuple(Row(name, cells) for name, cells in rows.items())
        return Table(title, ("score", *HEADINGS.values()), lines, _note("usual", "strange"))

    def panel(self) -> Panel:
        """A curve for each score of the uncalibrated model."""
        curves = {
            score: Curve(*found.curve(), found.auroc) for (column, score), found in self.by.items() if column == TEST
        }
        words = ("right", "wrong") if self.kind == FAILURES else None
        return Panel(KINDS[self.kind], self.name, self._usual, self._strange, curves, words)

    def _of_failures(self, rows: Mapping[str, tuple[str, ...]]) -> Table:
        """With how many answers are right and wrong in each line: a calibrator may change some."""
        counts = [f"{int(found.usual[-1]):,}/{int(found.strange[-1]):,}" for found in self.by.values()]
        lines = tuple(Row(name, (count, *rows[name])) for name, count in zip(rows, counts, strict=True))
        changed = "; lines with other counts, of calibrators that change answers, are not to be compared with the rest"
        note = _note("right", "wrong") + changed * (len(set(counts)) > 1)
        title = f"{TEST}, {KINDS[FAILURES]}: right answers, told from wrong ones"
        return Table(title, ("score", COUNTS, *HEADINGS.values()), lines, note)

    @property
    def _usual(self) -> int:
        return int(next(iter(self.by.values())).usual[-1])

    @property
    def _strange(self) -> int:
        return int(next(iter(self.by.values())).strange[-1])


def column_meanings(found: Iterable[Comparison]) -> dict[str, str]:
    """What each column of their tables is, in a line."""
    failed = any(comparison.kind == FAILURES for comparison in found)
    counts = {COUNTS: "How many answers are right and wrong; the wrong ones are what is strange there"}
    named = {heading: meaning(getattr(Detection, name)) for name, heading in HEADINGS.items()}
    return (counts if failed else {}) | named


def against(kind: str, name: str, test: Columns, strange: Columns) -> Comparison:
    """All of test against all of another split."""
    return Comparison(
        kind,
        name,
        {
            (column, score): detection(usual, strange[column].strangeness[score])
            for column, judged in test.items()
            for score, usual in judged.strangeness.items()
        },
    )


def failures(test: Columns) -> list[Comparison]:
    """Right answers on test against wrong ones; none where they are all of one kind.

    Calibrators may change some answers, and so have failures of their own.
    """
    by = {
        (column, score): detection(scores[judged.right], scores[~judged.right])
        for column, judged in test.items()
        for score, scores in judged.strangeness.items()
        if 0 < judged.right.sum() < len(judged.right)
    }
    return [Comparison(FAILURES, "", by)] if any(column == TEST for column, _ in by) else []


def by_shift(found: list[Comparison], shifts: Mapping[str, Judged]) -> Table:
    """For each named shift the accuracy, and what each score flags where it flags 5 % of test at most, uncalibrated."""
    scores = [score for column, score in found[0].by if column == TEST]
    rows = []
    for comparison in found:
        accuracy = float(shifts[comparison.name].right.double().mean())
        flagged = (1 - comparison.by[TEST, score].fpr_at_95_id_recall for score in scores)
        rows.append(Row(comparison.name, tuple(f"{100 * share:.1f}" for share in (accuracy, *flagged))))
    title = f"{TEST}, {KINDS['shift']}: per cent that are flagged where 95 % of {TEST} pass"
    note = "a shift keeps its classes: to flag what is still got right is no merit"
    return Table(title, ("shift", "accuracy", *scores), tuple(rows), note)


def confidence_on(sets: Mapping[str, Columns]) -> Findings:
    """How confident the model is where no answer is right: a table, and numbers of each OOD set."""
    metrics: dict[str, float] = {}
    rows = []
    for name, columns in sets.items():
        for column, judged in columns.items():
            probability = (-judged.strangeness["msp"]).exp().nan_to_num()
            mean, share = float(probability.mean()), float((probability > CONFIDENT).double().mean())
            metrics |= {f"{column}/ood/{name}/confidence": mean, f"{column}/ood/{name}/confident": share}
            rows.append(Row(_told(column, name), (f"{100 * mean:.2f} %", f"{100 * share:.2f} %")))
    headings = ("OOD set", "mean confidence", f"above {100 * CONFIDENT:g} %")
    table = Table(f"{TEST}, confidence on OOD sets", headings, tuple(rows))
    return Findings(metrics, tables={f"{TEST}-confidence-on-ood": table})


def _note(usual: str, strange: str) -> str:
    return (
        f"out: {strange} ones are positive, in: {usual} ones; FPR, 95 % in: share of {strange} ones that pass where "
        f"95 % of the {usual} do; FPR, 95 % out: share of {usual} ones that are flagged where 95 % of the {strange} are"
    )


def _told(column: str, name: str) -> str:
    return name if column == TEST else f"{name}, {column.removeprefix(f'{TEST}/')}"
