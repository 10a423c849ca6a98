"""Calibration of anybody's logits: fit → compare on rows that were not fitted to → write probabilities."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from poise.batch import Predictions
from poise.calibration import FOLDS, Calibration, fitted, out_of_fold
from poise.calibrator import Calibrator
from poise.calibrator_file import CalibratorFile
from poise.config.commands import PICTURE, Calibrate
from poise.doubts import grave
from poise.errors import UserError
from poise.explaining import explained
from poise.figures.canvas import save
from poise.figures.reliability import Reliability, column
from poise.files.rows import Rows
from poise.files.scores import PREFIXES, SPLITS, Scores
from poise.files.writing import write_bytes, write_csv, write_npz
from poise.intervals import interval_table
from poise.metrics.summary import summarised
from poise.paired import difference, losses
from poise.parts import described, make
from poise.progress import progress_bar, room, say
from poise.report import render
from poise.scores import UNCALIBRATED, Table

PROBABILITIES = "probabilities"
WIDTH = 100  # characters, as those of tables

log = logging.getLogger("poise")


@dataclass(frozen=True)
class Comparison:
    """Rows before calibration and after it.

    Args:
        title: what rows they are, and whether anything was fitted to them.
        rows: as they were.
        columns: logits of each calibrator by alias.
    """

    title: str
    rows: Predictions
    columns: Mapping[str, Float[Tensor, "N C"]]


def main(asked: Calibrate, scores: Scores) -> int:
    """Calibrate for the command line; returns the exit code.

    Raises:
        UserError: rows that nothing can be fitted to, or a file that cannot be written.
    """
    if scores.doubt:
        log.warning("%s", scores.doubt)
    held_out = _predictions(scores.fit)
    calibration = fitted(_made(asked), held_out, progress=progress_bar(shown=True))
    if not asked.explain:  # which begins with them
        for doubt in grave(held_out):
            log.warning("%s", doubt)
    compared = _on_test(scores, scores.test, calibration) if scores.test else _crossed(asked, held_out, calibration)
    written, refused = _written(asked, scores, compared, calibration)  # before what is printed, which may break off
    tables = {} if not asked.bootstrap else {f"{compared.title}-intervals": _intervals(asked.bootstrap, compared)}
    told, shipped = _told(compared, calibration), calibration.shipped or UNCALIBRATED
    say(render(_metrics(compared), list(compared.columns), told, tables, shipped=shipped, room=room()).rstrip())
    if asked.explain:
        lines = explained(compared.rows, compared.columns, calibration, held_out, scores.classes)
        say("\n".join(["", *(fill(line, WIDTH, subsequent_indent="  ", break_long_words=False) for line in lines)]))
    for line in written:
        say(line)
    if refused:
        raise UserError("\n".join(refused))
    return 0


def _written(
    asked: Calibrate, scores: Scores, compared: Comparison, calibration: Calibration
) -> tuple[list[str], list[str]]:
    """Write what is asked for: what to say of it, and of what cannot be, which costs neither these nor the table."""
    parts: list[Callable[[], str]] = []
    if asked.save is not None:  # first: all else can be had again from it
        parts.append(partial(_keep, asked, asked.save, scores, calibration))
    if asked.figures is not None:
        parts.append(partial(_draw, asked.figures, compared))
    if asked.out is not None:
        parts.append(partial(_write, asked.out, scores, calibration))
    written, refused = [], []
    for part in parts:
        try:
            written.append(part())
        except UserError as error:
            refused.append(str(error))
    return written, refused


def _keep(asked: Calibrate, path: str, scores: Scores, calibration: Calibration) -> str:
    """Write the shipped calibrator."""
    if calibration.shipped is None:
        alone = next(iter(asked.calibration))
        raise UserError(
            f"save={path} keeps nothing: no calibrator does better than the rows as they are. One that is named alone "
            f"is kept in any case, as with calibration={alone}."
        )
    entry = described(asked.calibration[calibration.shipped])
    assert entry is not None  # the command line has no objects
    file = CalibratorFile(calibration.calibrators[calibration.shipped], entry, tuple(scores.classes))
    write_bytes(path, f"save={path}", file.bytes())
    return f"{path} has {calibration.shipped}: poise calibrate apply calibrator={path} logits=…"


def _intervals(resamples: int, compared: Comparison) -> Table:
    rows = compared.rows
    columns = {UNCALIBRATED: rows.logits, **compared.columns}
    with progress_bar(shown=True)("draw resamples", resamples) as done:
        return interval_table("with intervals", columns, rows.label, rows.index, resamples=resamples, watch=done)


def _draw(figures: str, compared: Comparison) -> str:
    """Write the reliability diagram."""
    path, label = Path(figures, PICTURE), compared.rows.label
    columns = {UNCALIBRATED: compared.rows.logits, **compared.columns}
    drawn = tuple(column(name, summarised(logits, label)) for name, logits in columns.items())
    picture = BytesIO()
    save(Reliability(compared.title.partition(":")[0], drawn), picture)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"figures={figures} cannot be made: {error.strerror or error}.") from error
    write_bytes(str(path), f"figures={figures}", picture.getvalue())
    return f"{path} has a reliability diagram of each column."


def _made(asked: Calibrate) -> dict[str, Calibrator]:
    """The calibrators that are asked for, new."""
    return {alias: make("calibrator", entry) for alias, entry in asked.calibration.items()}


def _predictions(rows: Rows) -> Predictions:
    return Predictions.of(torch.from_numpy(rows.logits), torch.from_numpy(rows.labels))


def _on_test(scores: Scores, test: Rows, calibration: Calibration) -> Comparison:
    """Rows of their own, or so they are called."""
    rows = _predictions(test)
    columns = {alias: calibrated(each, rows.logits) for alias, each in calibration.calibrators.items()}
    seen = "were fitted to" if scores.seen_twice else "nothing was fitted to"
    return Comparison(f"test: {len(test)} rows that {seen}", rows, columns)


def _crossed(asked: Calibrate, held_out: Predictions, calibration: Calibration) -> Comparison:
    """The rows that were fitted to, each as calibrators that were fitted without it see it."""
    size = len(held_out.label)
    if not calibration.calibrators:
        return Comparison(f"{size} rows", held_out, {})
    title = f"{size} rows, cross-validated: {FOLDS} folds, each measured by what was fitted without it"
    if calibration.crossed:
        return Comparison(title, held_out, calibration.crossed)
    with progress_bar(shown=True)("cross-validate", FOLDS * len(calibration.calibrators)) as done:
        columns = {alias: out_of_fold(each, held_out, watch=done) for alias, each in _made(asked).items()}
    return Comparison(title, held_out, columns)


@torch.no_grad()
def calibrated(calibrator: nn.Module, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """Logits as a fitted calibrator gives them."""
    found: Tensor = calibrator(logits)
    return found


def _metrics(compared: Comparison) -> dict[str, float]:
    """Flat, as a report has them: `<title>/<metric>` before calibration, `<title>/<calibrator>/<metric>` after it."""
    title, label = compared.title, compared.rows.label
    after = {f"{title}/{alias}": logits for alias, logits in compared.columns.items()}
    return {
        f"{prefix}/{name}": score
        for prefix, logits in {title: compared.rows.logits, **after}.items()
        for name, score in summarised(logits, label).scores.items()
    }


def _told(compared: Comparison, calibration: Calibration) -> list[str]:
    """What was fitted, what becomes of predictions, which calibrator may be no help, and which is shipped."""
    before = compared.rows.logits.argmax(1)
    lines = [f"{alias} changes {_changed(before, logits)}." for alias, logits in compared.columns.items()]
    return [*filter(None, [calibration.settled]), *lines, *_doubted(compared), calibration.reason]


def _doubted(compared: Comparison) -> Iterator[str]:
    """The calibrators of which these rows cannot tell whether they help."""
    label = compared.rows.label
    before = losses(compared.rows.logits, label)
    for alias, logits in compared.columns.items():
        change = difference(losses(logits, label), before)
        if not change.clear:
            yield (
                f"{alias} changes the NLL by {change.mean:+.4f} ± {change.margin:.4f} (95 %): these rows cannot tell "
                "whether it helps."
            )


def _changed(before: Tensor, logits: Tensor) -> str:
    count = int((logits.argmax(1) != before).sum())
    return f"the predicted class of {count} of {len(before)} rows" if count else "no predicted class"


def _write(out: str, scores: Scores, calibration: Calibration) -> str:
    """Write the calibrated probabilities in the form that scores are read in."""
    shipped = None if calibration.shipped is None else calibration.calibrators[calibration.shipped]
    splits = {"calibration": scores.fit} | ({} if scores.test is None else {"test": scores.test})
    found = {split: _probabilities(shipped, rows) for split, rows in splits.items()}
    if out.lower().endswith(".csv"):
        names = ["split", "label", *(f"{PREFIXES[PROBABILITIES]}{name}" for name in scores.classes)]
        write_csv(out, names, _lines(splits, found, scores.classes))
    else:
        prefixes = dict(zip(SPLITS, ("", "test_"), strict=True))
        probabilities = {f"{prefixes[split]}{PROBABILITIES}": found[split] for split in splits}
        write_npz(out, probabilities | {f"{prefixes[split]}labels": rows.labels for split, rows in splits.items()})
    return f"{out} has the probabilities of {calibration.shipped or 'the rows as they were'}."


def _probabilities(calibrator: Calibrator | None, rows: Rows) -> Float[np.ndarray, "N C"]:
    logits = torch.from_numpy(rows.logits)
    found: np.ndarray = (logits if calibrator is None else calibrated(calibrator, logits)).softmax(1).numpy()
    return found


def _lines(
    splits: Mapping[str, Rows], found: Mapping[str, np.ndarray], classes: Sequence[str]
) -> Iterator[list[object]]:
    for split, rows in splits.items():
        for label, probabilities in zip(rows.labels, found[split].tolist(), strict=True):
            yield [split, classes[label], *probabilities]
