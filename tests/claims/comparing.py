"""A table of all arms of a claim beside one of them: what each came to, and which numbers tell them apart."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

from claims.claim import Numbers
from claims.judging import Interval

Runs = Mapping[str, Sequence[Numbers]]
"""The numbers of each arm by seed; the same seeds of all arms, two or more."""

MARKS = {1: " ▲", 0: "", -1: " ▼"}
NO_BREAK = "\N{NO-BREAK SPACE}"


def legend(beside: str) -> str:
    """What the table means."""
    return (
        f"Lower is better. ▲ higher and ▼ lower than {beside}, where the 95 % t-interval of the paired difference over "
        "the seeds excludes zero; no mark where the two are not told apart. **Bold** is the lowest of its column where "
        "such an interval excludes zero for every other row. The first column counts ▲, no mark and ▼, and rows are in "
        f"its order: those above {beside} are better in more scores than worse, those below worse in more. Marks are "
        "not corrected for being many: of a hundred differences that are none, five are marked."
    )


def comparison(data: str, beside: str, runs: Runs) -> Iterator[str]:
    """The lines of the table, of one setting.

    Args:
        data: the setting.
        beside: the arm that all others are compared with.
        runs: what was measured.
    """
    names = list(runs[beside][0])
    yield _row(f"on {data}", "▲ · even · ▼", names)
    yield _row("---", "---", ["---"] * len(names))
    marks = {arm: [_higher(runs, name, arm, beside) for name in names] for arm in runs}
    for arm in sorted(runs, key=lambda arm: sum(marks[arm])):
        counts = "" if arm == beside else " · ".join(str(marks[arm].count(mark)) for mark in MARKS)
        cells = [_cell(runs, name, arm, mark) for name, mark in zip(names, marks[arm], strict=True)]
        yield _row(arm, counts, cells)


def _row(arm: str, counts: str, cells: Sequence[str]) -> str:
    kept = [cell.replace(" ", NO_BREAK) for cell in (counts, *cells)]
    return f"| {arm} | {' | '.join(kept)} |"


def spread(values: Sequence[float]) -> str:
    """The mean and, of two or more, half of its 95 % t-interval."""
    if len(values) < 2:
        return f"{mean(values):.2f}" if values else ""
    interval = Interval.of(values)
    return f"{interval.mean:.2f} ± {interval.high - interval.mean:.2f}".replace(" ", NO_BREAK)


def _cell(runs: Runs, name: str, arm: str, mark: int) -> str:
    shown = spread([numbers[name] for numbers in runs[arm]])
    lowest = all(_higher(runs, name, arm, other) < 0 for other in runs if other != arm)
    return f"{f'**{shown}**' if lowest else shown}{MARKS[mark]}"


def _higher(runs: Runs, name: str, arm: str, other: str) -> int:
    """1 where an arm is told to be higher than another, -1 where lower, 0 where they are not told apart."""
    pairs = zip(runs[arm], runs[other], strict=True)
    interval = Interval.of([numbers[name] - others[name] for numbers, others in pairs])
    return (interval.low > 0) - (interval.high < 0)
