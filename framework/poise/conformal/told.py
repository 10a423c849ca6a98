"""What is told of sets of labels: numbers, a table, and a picture of their sizes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poise.conformal.measures import Measured
from poise.figures.set_sizes import Sizes
from poise.scores import Row, Table

HEADINGS = ("sets", "coverage (95 %)", "mean size", "empty", "single", "full", "worst class", "size gap")


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


def metrics(sets: Iterable[Told], inputs: str, alpha: float) -> dict[str, float]:
    """`<prefix>/conformal/<rule>/<measure>`; of attacked inputs `<prefix>/conformal/<attack>/<rule>/<measure>`.

    Args:
        sets: all that was made of these inputs.
        inputs: the attack's name; "" for inputs as they are.
        alpha: share of the sets, at most, that are to be without the true label.
    """
    return {
        f"{one.prefix}/conformal/{f'{inputs}/' if inputs else ''}{one.rule}/{name}": value
        for one in sets
        for name, value in one.measured.metrics(alpha).items()
    }


def tables(sets: Sequence[Told], split: str, inputs: str, alpha: float) -> dict[str, Table]:
    """A table for each column of the report, by name, with a line for each rule.

    Args:
        sets: all that was made of these inputs.
        split: that was measured.
        inputs: as of `metrics`.
        alpha: as of `metrics`.
    """
    where = f"{split} under {inputs}" if inputs else split
    title = f"{where}, conformal sets of coverage {100 * (1 - alpha):g} %"
    note = "size gap: the coverage of sets of like sizes that is furthest from the one asked for, by how much"
    return {
        "-".join(filter(None, (split, "conformal", inputs, column))): Table(
            ", ".join(filter(None, (title, column))),
            HEADINGS,
            tuple(Row(one.rule, _cells(one.measured, alpha)) for one in sets if one.column == column),
            note,
        )
        for column in dict.fromkeys(one.column for one in sets)
    }


def sizes(sets: Iterable[Told]) -> tuple[Sizes, ...]:
    """What a picture shows: the uncalibrated sets of each rule."""
    return tuple(Sizes(one.rule, one.measured.counts, one.measured.coverage) for one in sets if not one.column)


def _cells(measured: Measured, alpha: float) -> tuple[str, ...]:
    found = measured.metrics(alpha)
    low, high = measured.interval
    coverage = f"{100 * measured.coverage:.1f} % ({100 * low:.1f}–{100 * high:.1f})"
    names = ("empty", "single", "full", "worst_class_coverage", "size_gap")
    shares = (f"{100 * found[name]:.1f} %" if name in found else "" for name in names)
    return (coverage, f"{measured.mean_size:.3g}", *shares)
