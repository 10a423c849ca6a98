"""What is told of sets of labels: numbers, a table, and a picture of their sizes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from poise.conformal.measures import Measured
from poise.figures.set_sizes import Sizes
from poise.scores import SHIFTS, Row, Table

HEADINGS = {  # by measure
    "worst_class_coverage": "class",
    "worst_group_coverage": "group",
    "largest_size_coverage_gap": "gap by size",
}
NOTE = (
    "sets of labels in place of a class; coverage: share of them with the true one, and its interval at 95 %; size: "
    "the mean number of labels; empty/one/all: shares of sets of so many; class, group: coverage of the worst; gap by "
    "size: how far the coverage of sets of like sizes is from the one asked for, at most"
)


@dataclass(frozen=True)
class Inputs:
    """What was done to inputs before they had sets.

    Args:
        name: of the attack, in names of metrics and tables; "" for inputs as they are.
        settings: of the attack, as numbers by name.
        said: what was done, in words.
    """

    name: str = ""
    settings: Mapping[str, float] = field(default_factory=dict, compare=False)
    said: str = field(default="", compare=False)


AS_THEY_ARE = Inputs()
BELOW = "↓"


@dataclass(frozen=True)
class Told:
    """The sets of one rule, by one column of the report.

    Args:
        prefix: of metrics, such as `test/temperature_scaling`.
        column: a calibrator's name; "" for the uncalibrated.
        rule: its name.
        measured: the sets.
    """

    prefix: str
    column: str
    rule: str
    measured: Measured


def metrics(sets: Iterable[Told], split: str, inputs: Inputs, alpha: float) -> dict[str, float]:
    """`<prefix>/conformal/<rule>/<measure>`; of attacked inputs `<prefix>/conformal/<attack>/<rule>/<measure>`, and
    `<split>/conformal/<attack>/<setting>`.

    Args:
        sets: all that was made of these inputs.
        split: that was measured.
        inputs: what was done to them.
        alpha: share of the sets, at most, that are to be without the true label.
    """
    where = "/".join(filter(None, ("conformal", inputs.name)))
    measures = {
        f"{one.prefix}/{where}/{one.rule}/{name}": value
        for one in sets
        for name, value in one.measured.metrics(alpha).items()
    }
    return {f"{split}/{where}/{name}": value for name, value in inputs.settings.items()} | measures


def table(sets: Iterable[Told], split: str, inputs: Inputs, alpha: float, least: float) -> Table:
    """A line for each rule by each column of the report.

    Args:
        sets: all that was made of these inputs.
        split: that was measured.
        inputs: what was done to them.
        alpha: as of `metrics`.
        least: coverage that chance alone may leave; lines whose whole interval is below it are marked.
    """
    where = f"{split} under {inputs.name}" if inputs.name else split
    values = {_line(one.rule, one.column): one.measured.metrics(alpha) for one in _by_rule(sets)}
    marked = f"{BELOW}: below {100 * least:.1f} %, so far from what sets were made for that it is no chance"
    lines = {
        NOTE: True,
        marked: any(_below(of_line, least) for of_line in values.values()),
        f"{inputs.name}: {inputs.said}": bool(inputs.name),
    }
    measures = [name for name in HEADINGS if any(name in of_line for of_line in values.values())]
    headings = ("sets", "coverage", "size", "empty/one/all", *map(HEADINGS.__getitem__, measures))
    rows = tuple(Row(line, _cells(of_line, measures, least)) for line, of_line in values.items())
    return Table(_title(where, alpha), headings, rows, "; ".join(line for line, holds in lines.items() if holds))


def shift_table(by_shift: Mapping[str, Sequence[Told]], alpha: float) -> Table:
    """A line for each named shift by each column of the report, and a column for each rule.

    Args:
        by_shift: what was made of each, one or more; of the same rules.
        alpha: as of `metrics`.
    """
    cells: dict[str, list[str]] = {}
    for shift, sets in by_shift.items():
        for one in sets:
            told = f"{100 * one.measured.coverage:.1f} %, {one.measured.mean_size:.3g}"
            cells.setdefault(_line(shift, one.column), []).append(told)
    rules = dict.fromkeys(one.rule for sets in by_shift.values() for one in sets)
    rows = tuple(Row(line, tuple(of_line)) for line, of_line in cells.items())
    return Table(_title(SHIFTS, alpha), (SHIFTS, *rules), rows, "coverage, and the mean number of labels")


def sizes(sets: Iterable[Told]) -> tuple[Sizes, ...]:
    """What a picture shows: the uncalibrated sets of each rule."""
    return tuple(Sizes(one.rule, one.measured.counts, one.measured.coverage) for one in sets if not one.column)


def _cells(values: Mapping[str, float], measures: Iterable[str], least: float) -> tuple[str, ...]:
    low, high = (f"{100 * values[f'coverage_{end}']:.1f}" for end in ("low", "high"))
    sizes = "/".join(f"{100 * values[name]:.0f}" for name in ("empty", "single", "full"))
    shares = (f"{100 * values[name]:.1f} %" if name in values else "" for name in measures)
    coverage = f"{100 * values['coverage']:.1f} % ({low}–{high})"
    marked = f"{BELOW} {coverage}" if _below(values, least) else coverage
    return (marked, f"{values['mean_size']:.3g}", f"{sizes} %", *shares)


def _below(values: Mapping[str, float], least: float) -> bool:
    return values["coverage_high"] < least


def _by_rule(sets: Iterable[Told]) -> list[Told]:
    """What is of one rule together, in the order that rules come in."""
    every = list(sets)
    rules = list(dict.fromkeys(one.rule for one in every))
    return sorted(every, key=lambda one: rules.index(one.rule))


def _line(name: str, column: str) -> str:
    return f"{name}, {column}" if column else name


def _title(where: str, alpha: float) -> str:
    return f"{where}, conformal sets made for a coverage of {100 * (1 - alpha):g} %"
