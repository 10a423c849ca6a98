"""The scores of each column with the interval that chance leaves them, and those of differences, as a table."""

from collections.abc import Callable, Mapping

from jaxtyping import Float, Int
from torch import Tensor

from poise.metrics.bootstrap import Resampled
from poise.metrics.counted import resampled_summaries
from poise.scores import UNCALIBRATED, Row, Table

LEVEL = 0.95
UNSURE = "?"  # beside a change whose interval includes 0


def interval_table(
    title: str,
    columns: Mapping[str, Float[Tensor, "N C"]],
    labels: Int[Tensor, " N"],
    index: Int[Tensor, " N"],
    bins: int = 15,
    resamples: int = 1000,
    seed: int = 0,
    watch: Callable[[float], None] = lambda drawn: None,
) -> Table:
    """A line for each score of each column: its interval, and of a calibrator that of what it changes.

    A score that a calibrator leaves as it is in every resample, as accuracy is by one that keeps predictions, has no
    line of it.

    Args:
        title: of the table.
        columns: logits by name, the first `uncalibrated`.
        labels: in 0…C-1.
        index: the examples' positions in their split.
        bins: of the calibration errors.
        resamples: their number, >= 1.
        seed: of the draws.
        watch: told how many more resamples are drawn, for a progress bar.
    """
    found = resampled_summaries(columns, labels, index, bins, resamples, seed, watch)
    rows = [
        Row(f"{score}, {column}", (*_told(of_column[score]), *_changed(score, of_column, found[UNCALIBRATED])))
        for score in found[UNCALIBRATED]
        for column, of_column in found.items()
        if score in of_column and _differs(of_column[score], found[UNCALIBRATED][score])
    ]
    interval = f"{LEVEL:.0%} interval"
    note = (
        f"from {resamples} resamples; {UNSURE} 0 lies in the interval of the change; chance adds to calibration "
        "errors, which intervals take off again: they may end below the value. What a calibrator leaves as it is has "
        "no line"
    )
    return Table(title, ("score", "value", interval, "change", interval), tuple(rows), note)


def _differs(score: Resampled, uncalibrated: Resampled) -> bool:
    """Whether it is the uncalibrated one, or another than that."""
    change = score - uncalibrated
    return score is uncalibrated or change.estimate != 0 or bool((change.replicates.nan_to_num() != 0).any())


def _changed(score: str, column: Mapping[str, Resampled], uncalibrated: Mapping[str, Resampled]) -> tuple[str, str]:
    if column is uncalibrated:
        return "", ""
    change = column[score] - uncalibrated[score]
    ends = change.interval(LEVEL)
    told, interval = _told(change, "+")
    return f"{told} {UNSURE}" if ends.low <= 0 <= ends.high else told, interval


def _told(score: Resampled, sign: str = "") -> tuple[str, str]:
    interval = score.interval(LEVEL)
    return f"{score.estimate:{sign}z.4f}", f"{interval.low:{sign}z.4f} … {interval.high:{sign}z.4f}"
