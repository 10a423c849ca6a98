"""The final metrics as tables of text: which rows and columns there are, what is best, what is left out."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

UNCALIBRATED = "uncalibrated"
TEST, VALIDATION, SHIFTS = "test", "val", "shifts"  # splits; the last stands for the mean over named shifts
KINDS = {"class": "classes", "group": "groups", "radius": "radii"}  # of which there is a value each
HEADINGS = {"radius": "radius / eps"}
FEW = 20  # classes or groups that are all shown where there is little room
WORST = 5  # of more, so many
ATTACKED = "attacked_"  # before scores of what a model says under attack, which have a table of their own
NOTES = {"mce": "mce is over bins of 10 or more examples"}  # or it seems wrong where it is below ece

_PART = re.compile(rf"(?P<measure>.+?)/(?P<kind>{'|'.join(KINDS)})/(?P<part>.+)", re.DOTALL)
_WORST = re.compile(r"worst_(?P<kind>class|group)_(?P<measure>.+)", re.DOTALL)
_OF_SHIFTS = re.compile(r"accuracy|nll|ece|robust_accuracy/[^/]+")  # what all shifts have a table of
_ELSEWHERE = re.compile(  # in tables of their own
    r"(?:honesty|attack_passes|power_law|conformal|ood|shift|failures|selective)/.+|robust_accuracy/[^/]+/[^/]+"
)
_HIGHER, _LOWER = {"accuracy"}, {"nll", "brier", "ece", "error", "ace", "ks", "mmce", "aurc", "augrc"}
_TERMS = {"reliability", "resolution", "uncertainty", "variance", "covariance"}  # of the Brier score
_NEITHER = _TERMS | {"debiased"}  # which is below 0 by chance
_PERCENT = {"accuracy", "confidence", "changed"}


@dataclass(frozen=True)
class Row:
    """One line: what it is of, a text for each column, and the columns whose value is best."""

    name: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Table:
    """Lines under a title; the first heading is of the lines' names. The note is for who wonders."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Sheet:
    """The metrics of one split: for each column of the report, its values by metric."""

    split: str
    columns: tuple[tuple[str, Mapping[str, float]], ...]

    def scores(self) -> Table:
        """A line for each metric; the worst class and group are named."""
        return self._table(self.split, [name for name in self._metrics() if not name.startswith(ATTACKED)])

    def attacked(self) -> Table:
        """A line for each metric of what the model says under attack."""
        return self._table(f"{self.split}, attacked", [name for name in self._metrics() if name.startswith(ATTACKED)])

    def parts(self, kind: str, few: int | None = FEW) -> Table | None:
        """A line for each class, group or radius; None where there are none.

        Args:
            kind: `class`, `group` or `radius`.
            few: parts beyond which only the worst are shown; None to show all.
        """
        columns = self._columns_of(kind)
        if not columns:
            return None
        parts = list(dict.fromkeys(part for values in columns.values() for part in values))
        note = ""
        if few is not None and len(parts) > few and kind != "radius":
            heading, last = list(columns.items())[-1]
            note = f"the worst {WORST} of {len(parts)} {KINDS[kind]} by {heading}; report.json has all"
            better = _sign(heading) or 1
            parts = sorted(parts, key=lambda part: better * last.get(part, better * math.inf))[:WORST]
        rows = (Row(part, tuple(_shown(name, of.get(part)) for name, of in columns.items())) for part in parts)
        return Table(f"{self.split}, by {kind}", (HEADINGS.get(kind, kind), *columns), tuple(rows), note)

    def _table(self, title: str, names: Sequence[str]) -> Table:
        note = "; ".join(text for name, text in NOTES.items() if name in names)
        headings = ("metric", *(name for name, _ in self.columns))
        return Table(title, headings, tuple(map(self._row, names)), note)

    def _metrics(self) -> Iterator[str]:
        """Those that are in no tables of their own."""
        for name in dict.fromkeys(name for _, values in self.columns for name in values):
            if not (_PART.fullmatch(name) or _ELSEWHERE.fullmatch(name)):
                yield name

    def _row(self, name: str) -> Row:
        values = [values.get(name) for _, values in self.columns]
        cells = [_shown(name, value) for value in values]
        worst = [_worst(name, values) for _, values in self.columns]
        named = {part for part in worst if part is not None}
        if len(named) > 1:
            cells = [f"{cell} ({part})" if part else cell for cell, part in zip(cells, worst, strict=True)]
        return Row(f"{name} ({named.pop()})" if len(named) == 1 else name, tuple(cells), _best(name, values))

    def _columns_of(self, kind: str) -> dict[str, dict[str, float]]:
        """By heading, the values of each part; a calibrator that changes none has no column of its own."""
        found: dict[str, dict[str, float]] = {}
        for name, values in self.columns:
            for measure, parts in _by_measure(kind, values).items():
                if name == UNCALIBRATED:
                    found[measure] = parts
                elif parts != found.get(measure):
                    found[f"{measure}, {name}"] = parts
        return found


def marked(table: Table, shipped: str) -> Table:
    """With a word at the heading of the column that is shipped, where it has others beside it."""
    if len(table.headings) == 2:
        return table
    return replace(table, headings=tuple(f"{name} (shipped)" if name == shipped else name for name in table.headings))


def sheets(metrics: Mapping[str, float], calibrators: Sequence[str]) -> list[Sheet]:
    """What was measured on each split, in order.

    Args:
        metrics: flat, `<split>/<metric>` and `<split>/<calibrator>/<metric>`.
        calibrators: names, in order.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for full, value in metrics.items():
        split, _, name = full.partition("/")
        column, _, rest = name.partition("/")
        column, name = (column, rest) if column in calibrators and rest else (UNCALIBRATED, name or split)
        found.setdefault(split, {}).setdefault(column, {})[name] = value
    order = (UNCALIBRATED, *calibrators)
    return [Sheet(split, tuple((c, by[c]) for c in order if c in by)) for split, by in found.items()]


def is_of_part(name: str) -> bool:
    """Whether a metric is that of a class, group or radius, or of the worst."""
    return _PART.fullmatch(name) is not None or any(map(_WORST.fullmatch, name.split("/")))


def by_shift(found: Sequence[Sheet]) -> list[Table]:
    """For accuracies, NLL and ECE a table each: a line for test, each shift and their mean, a column a calibrator.

    None where no means over shifts were measured. A calibrator that changes no value of a measure has no column.
    """
    of = {sheet.split: dict(sheet.columns) for sheet in found}
    means = of.get(SHIFTS, {})
    names = {split: split for split in (TEST, *shifts_of(found)) if split in of} | {SHIFTS: "mean of shifts"}
    tables = []
    for measure in filter(_OF_SHIFTS.fullmatch, means.get(UNCALIBRATED, {})):
        columns = {column: [of[split].get(column, {}).get(measure) for split in names] for column in means}
        told = {c: values for c, values in columns.items() if c == UNCALIBRATED or values != columns[UNCALIBRATED]}
        rows = (
            Row(name, tuple(_shown(measure, value) for value in values), _best(measure, values))
            for name, values in zip(names.values(), zip(*told.values(), strict=True), strict=True)
        )
        tables.append(Table(f"{SHIFTS}, {measure}", (measure, *told), tuple(rows)))
    return tables


def shifts_of(found: Sequence[Sheet]) -> list[str]:
    """The splits that are named shifts."""
    return [sheet.split for sheet in found if sheet.split not in (TEST, VALIDATION, SHIFTS)]


def _by_measure(kind: str, values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        match = _PART.fullmatch(name)
        if match and match["kind"] == kind:
            found.setdefault(match["measure"], {})[match["part"]] = value
    return found


def _worst(name: str, values: Mapping[str, float]) -> str | None:
    """Which class or group a `worst_…` is of."""
    match = _WORST.fullmatch(name)
    parts = _by_measure(match["kind"], values).get(match["measure"]) if match else None
    return min(parts, key=lambda part: parts[part]) if parts else None


def _best(name: str, values: Sequence[float | None]) -> frozenset[int]:
    """The columns with the best value, to the digits shown; none where all are alike or no end is the better one."""
    sign = _sign(name)
    known = {place: value for place, value in enumerate(values) if value is not None and math.isfinite(value)}
    shown = {place: _shown(name, value) for place, value in known.items()}
    if not sign or len(set(shown.values())) < 2:
        return frozenset()
    top = shown[max(known, key=lambda place: sign * known[place])]
    return frozenset(place for place, text in shown.items() if text == top)


def _sign(name: str) -> int:
    """1 where the higher is the better, -1 where the lower is, 0 where neither or nobody knows."""
    words = _words(name)
    return 0 if words & _NEITHER else 1 if words & _HIGHER else -1 if words & _LOWER else 0


def _shown(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if _words(name) & _PERCENT else f"{value:z.4f}"


def _words(name: str) -> set[str]:
    return set(re.split(r"[\W_]+", name))
