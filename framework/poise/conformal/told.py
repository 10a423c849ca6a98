"""What is told of sets of labels: numbers, a table, and a picture of their sizes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poise.conformal.measures import Measured
from poise.figures.set_sizes import Sizes
from poise.scores import Row, Table

HEADINGS = ("sets", "coverage", "95 % interval", "mean size", "empty", "single", "full", "worst class", "size gap")


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


def table(sets: Sequence[Told], where: str, alpha: float) -> Table:
    """A line for each rule and column.

    Args:
        sets: one or more.
        where: the split, and the attack where there is one.
        alpha: as of `metrics`.
    """
    rows = tuple(Row(", ".join(filter(None, (one.rule, one.column))), _cells(one.measured, alpha)) for one in sets)
    note = "size gap: the coverage of sets of like sizes that is furthest from the one asked for, by how much"
    return Table(f"{where}, conformal sets of coverage {100 * (1 - alpha):g} %", HEADINGS, rows, note)


def sizes(sets: Iterable[Told]) -> tuple[Sizes, ...]:
    """What a picture shows: the uncalibrated sets of each rule."""
    return tuple(Sizes(one.rule, one.measured.counts, one.measured.coverage) for one in sets if not one.column)


def _cells(measured: Measured, alpha: float) -> tuple[str, ...]:
    found = measured.metrics(alpha)
    interval = f"{100 * found['coverage_low']:.1f}–{100 * found['coverage_high']:.1f}"
    shares = (f"{100 * found[name]:.1f} %" for name in ("empty", "single", "full", "worst_class_coverage", "size_gap"))
    return (f"{100 * found['coverage']:.1f} %", interval, f"{found['mean_size']:.3g}", *shares)
