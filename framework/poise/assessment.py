"""What is done with a trained model, whoever trained it: calibrate → evaluate → report."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.errors import UserError
from poise.evaluator import Evaluator, Findings, Subject
from poise.predictions import predict
from poise.progress import say
from poise.report import render
from poise.result import Result
from poise.run_directory import RunDirectory
from poise.tracking.tracker import NoTracker

log = logging.getLogger("poise")


def calibrate(subject: Subject, calibrators: Mapping[str, Calibrator]) -> dict[str, Calibrator]:
    """Fit each calibrator on the calibration split, which nothing else has seen.

    Raises:
        UserError: unlabelled data that a calibrator needs are not there, or predictions nothing can be fitted to.
    """
    if not calibrators:
        return {}
    if not len(subject.splits.calibration):
        raise UserError(
            f"the data have no calibration examples to fit {next(iter(calibrators))} to: give x_calibration and "
            "y_calibration, say, or calibration=none"
        )
    held_out = predict(subject.model, subject.splits.calibration, subject.ranks)
    unlabelled = _unlabelled(subject)
    fitted: dict[str, Calibrator] = {}
    for alias, calibrator in calibrators.items():
        if "unlabelled" in calibrator.needs and unlabelled is None:
            raise UserError(f"{alias} needs unlabelled data: give the data a stream called `unlabelled`")
        fitted[alias] = calibrator.fit(held_out, unlabelled)
        log.info("fitted %s on %d examples", alias, len(held_out.label))
    return fitted


def evaluate(subject: Subject, calibrators: Mapping[str, Calibrator], evaluators: Iterable[Evaluator]) -> Findings:
    """What the evaluators find, before calibration and after each fitted calibrator."""
    calibrated = replace(subject, calibrators=calibrators)
    return Findings.merged(evaluator.evaluate(calibrated) for evaluator in evaluators)


def conclude(
    metrics: dict[str, float], calibrators: Iterable[str], directory: RunDirectory, tracker: NoTracker
) -> Result:
    """Write, track and show the report; call on one rank. The run is over then."""
    table = render(metrics, list(calibrators))
    log.info("report\n%s", table)
    tracker.report(metrics, table)
    directory.write_report(metrics)
    say(table)
    return Result(metrics, directory.path)


def _unlabelled(subject: Subject) -> Predictions | None:
    stream = subject.splits.streams.get("unlabelled")
    return None if stream is None else predict(subject.model, stream, subject.ranks)
