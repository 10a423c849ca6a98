"""`poise calibrate apply`: a calibrator that was fitted before → probabilities of new logits."""

from collections.abc import Sequence

import numpy as np
import torch

from poise.calibrating import PROBABILITIES, calibrated
from poise.calibrator_file import CalibratorFile
from poise.config.commands import Apply
from poise.errors import UserError
from poise.files.scores import PREFIXES, Unlabelled
from poise.files.writing import write_csv, write_npz
from poise.progress import say


def main(asked: Apply, rows: Unlabelled) -> int:
    """Calibrate for the command line; returns the exit code.

    Raises:
        UserError: no calibrator there, one of other classes, or a file that cannot be written.
    """
    assert asked.out is not None
    kept = CalibratorFile.read(asked.calibrator, asked.trust)
    _check_classes(asked, kept.class_names, rows)
    logits = calibrated(kept.calibrator, torch.from_numpy(rows.logits))
    probabilities: np.ndarray = logits.softmax(1).numpy()
    if asked.out.lower().endswith(".csv"):
        names = [f"{PREFIXES[PROBABILITIES]}{name}" for name in kept.class_names]
        write_csv(asked.out, names, probabilities.tolist())
    else:
        write_npz(asked.out, {PROBABILITIES: probabilities})
    say(f"{asked.out} has the probabilities of {kept.described['name']} for {len(probabilities)} rows.")
    return 0


def _check_classes(asked: Apply, fitted: Sequence[str], rows: Unlabelled) -> None:
    """The same classes in the same order, as far as the file names them; numbers from 0 are no names."""
    if rows.logits.shape[1] != len(fitted):
        raise UserError(
            f"{asked.calibrator} was fitted to {len(fitted)} classes, and logits={asked.logits} has "
            f"{rows.logits.shape[1]}."
        )
    numbers = [str(place) for place in range(len(fitted))]
    if rows.classes is not None and list(fitted) != numbers and list(rows.classes) != list(fitted):
        raise UserError(
            f"{asked.calibrator} was fitted to the classes {', '.join(fitted)}, and logits={asked.logits} has "
            f"{', '.join(rows.classes)}: give the same in the same order."
        )
