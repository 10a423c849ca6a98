"""`poise calibrate apply`: a calibrator that was fitted before → probabilities of new logits."""

from collections.abc import Sequence

import numpy as np
import torch

from poise.calibrating import PROBABILITIES, calibrated
from poise.calibrator_file import CalibratorFile
from poise.config.commands import Apply
from poise.errors import UserError, nearest
from poise.files.scores import PREFIXES, Unlabelled
from poise.files.shown import listed, quoted
from poise.files.writing import write_csv, write_npz
from poise.progress import say


def main(asked: Apply, rows: Unlabelled) -> int:
    """Calibrate for the command line; returns the exit code.

    Raises:
        UserError: no calibrator there, one of other classes, or a file that cannot be written.
    """
    assert asked.out is not None
    kept = CalibratorFile.read(asked.calibrator, asked.trust)
    order, remark = _order(asked, kept.class_names, rows)
    logits = calibrated(kept.calibrator, torch.from_numpy(rows.logits[:, order]))
    probabilities = np.empty_like(rows.logits)
    probabilities[:, order] = logits.softmax(1).numpy()
    if asked.out.lower().endswith(".csv"):
        names = [f"{PREFIXES[PROBABILITIES]}{kept.class_names[order.index(place)]}" for place in range(len(order))]
        write_csv(asked.out, names, probabilities.tolist())
    else:
        write_npz(asked.out, {PROBABILITIES: probabilities})
    say(f"{asked.out} has the probabilities of {kept.described['name']} for {len(probabilities)} rows.")
    if remark:
        say(remark)
    return 0


def _order(asked: Apply, fitted: Sequence[str], rows: Unlabelled) -> tuple[list[int], str]:
    """The column of each class that was fitted to, by name as far as both name them, and what to say of it."""
    as_they_are, given = list(range(len(fitted))), rows.classes
    if rows.logits.shape[1] != len(fitted):
        lacking = [name for name in fitted if given is not None and name not in given]
        named = f": there is none of {listed(lacking)}" if lacking and len(lacking) < len(fitted) else ""
        raise UserError(
            f"{asked.calibrator} was fitted to {len(fitted)} classes, and logits={asked.logits} has "
            f"{rows.logits.shape[1]}{named}."
        )
    if given is None or list(given) == list(fitted):
        return as_they_are, ""
    if strangers := [name for name in given if name not in fitted]:
        if list(fitted) == [str(place) for place in as_they_are]:
            return as_they_are, f"{asked.calibrator} numbers its classes: the columns are taken in their order."
        raise UserError(
            f"logits={asked.logits} has a class {quoted(strangers[0])}, to which {asked.calibrator} was not fitted: "
            f"its classes are {listed(fitted)}.{nearest(strangers[0], fitted)}"
        )
    told = f"{asked.logits} has the classes in another order than {asked.calibrator}: they are taken by their names."
    return [given.index(name) for name in fitted], told
