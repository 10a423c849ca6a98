"""What is done with a trained model, whoever trained it: calibrate → evaluate → ship → report."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from poise.batch import Predictions
from poise.calibration import Calibration, fitted
from poise.calibrator import Calibrator
from poise.chance import no_better_than_chance
from poise.config import Config
from poise.data.dataset import Splits
from poise.errors import UserError
from poise.evaluator import Evaluator, Findings, Subject
from poise.page import WARNING
from poise.parts import described
from poise.predictions import predict
from poise.predictor import Predictor
from poise.progress import room, say
from poise.report import Report, write
from poise.result import Result
from poise.run_directory import RunDirectory
from poise.scores import TEST, VALIDATION
from poise.tracking.tracker import NoTracker

HARM = 1.1  # times the uncalibrated NLL, of which less may be chance

log = logging.getLogger("poise")


def calibrate(subject: Subject, calibrators: Mapping[str, Calibrator]) -> Calibration:
    """Fit each calibrator on the calibration split, which nothing else has seen, and choose the one to ship.

    Raises:
        UserError: no examples to fit to, unlabelled data that a calibrator needs are not there, or predictions that
            nothing can be fitted to.
    """
    if not calibrators:
        return Calibration({}, None, {}, 0)
    check_calibration(subject.splits, calibrators)
    held_out = predict(subject.model, subject.splits.calibration, subject.ranks, batch_size=subject.batch_size)
    calibration = fitted(calibrators, held_out, _unlabelled(subject), subject.progress)
    log.info(calibration.reason)
    subject.ranks.barrier()  # fits take their time, on each rank its own
    return calibration


def check_calibration(splits: Splits, calibrators: Iterable[str]) -> None:
    """Whether there is something to fit calibrators to.

    Raises:
        UserError: there is not.
    """
    if not len(splits.calibration):
        raise UserError(
            f"the data have no calibration examples to fit {next(iter(calibrators))} to: give x_calibration and "
            "y_calibration, say, or calibration=none"
        )


def check_evaluators(splits: Splits, evaluators: Mapping[str, Evaluator]) -> None:
    """Whether each evaluator can look at the data.

    Raises:
        UserError: one cannot.
    """
    for alias, evaluator in evaluators.items():
        try:
            evaluator.check(splits)
        except UserError as error:
            raise UserError(f"evaluation={alias}: {error}; leave it out") from error


def evaluate(subject: Subject, calibration: Calibration, evaluators: Iterable[Evaluator]) -> Findings:
    """What the evaluators find, before calibration and after each fitted calibrator."""
    calibrated = replace(subject, calibrators=calibration.calibrators)
    found = []
    for evaluator in evaluators:
        found.append(evaluator.evaluate(calibrated))
        subject.ranks.barrier()  # one rank may do more than others, such as draw
    return Findings.merged([*found, Findings(doubts=tuple(_overwritten(found)))])


def learnt(subject: Subject) -> Findings:
    """A doubt where training came to nothing, by the validation split."""
    seen = predict(subject.model, subject.splits.val, subject.ranks, batch_size=subject.batch_size)
    chance = no_better_than_chance(seen, VALIDATION)
    way_out = "little was learnt. A lower optimizer.lr or trainer.gradient_clip=1 may help"
    return Findings(doubts=(f"{chance}: {way_out}",) if chance else ())


def _overwritten(found: Sequence[Findings]) -> Iterator[str]:
    """What to say where evaluators measure the same by name and not in value, of which one report has room for one."""
    for earlier, later in combinations(found, 2):
        same = earlier.metrics.keys() & later.metrics.keys()
        other = sorted(name for name in same if f"{later.metrics[name]:.6g}" != f"{earlier.metrics[name]:.6g}")
        if other:
            name, more = other[0], f" and {len(other) - 1} more" if len(other) > 1 else ""
            yield (
                f"two evaluators give {name}{more} by the same name, {later.metrics[name]:g} and "
                f"{earlier.metrics[name]:g}, of which the report has the last: evaluate apart, by poise evaluate"
            )


def ship(predictor: Predictor, calibration: Calibration, config: Config, directory: RunDirectory) -> None:
    """Write the predictor, with the chosen calibrator where there is one; call on one rank."""
    alias = calibration.shipped
    if alias is not None:
        card = replace(predictor.card, calibrator=described(config.calibration[alias]))
        predictor = Predictor(predictor.model, card, calibration.calibrators[alias])
    predictor.save(directory.predictor)


def remarks(subject: Subject, calibration: Calibration, findings: Findings, reason: str) -> list[str]:
    """What stands below the numbers: the reason for the calibrator, what the attacks were, and whether it does harm."""
    attacked = any("/robust_accuracy/" in name for name in findings.metrics)  # which val/robust_accuracy is not
    lines = [reason, *_lowered(calibration.shipped, findings.metrics)]
    lines += [f"Attacks: {subject.threat}."] if attacked else []
    lines += [*findings.notes, *filter(None, [calibration.settled])]
    lines += [warning(doubt) for doubt in findings.doubts]
    before, after = (findings.metrics.get(f"test/{name}") for name in ("nll", f"{calibration.shipped}/nll"))
    if before is not None and after is not None and after > HARM * before:
        harm = f"{calibration.shipped} does harm on test, where it takes the NLL from {before:.4f} to {after:.4f}"
        lines.append(warning(f"{harm}; calibration=none ships the model as it is"))
    unseen = [name for name in subject.splits.ood if not any(f"/ood/{name}/" in metric for metric in findings.metrics)]
    if unseen:
        lines.append(f"OOD sets: {', '.join(unseen)}, for evaluators that look at such, as ood does.")
    return lines


def _lowered(shipped: str | None, metrics: Mapping[str, float]) -> Iterator[str]:
    """What to say where a calibrator that is shipped changes predictions, and that for the worse."""
    changed = metrics.get(f"{TEST}/{shipped}/changed_predictions")
    before, after = (metrics.get(f"{TEST}/{name}") for name in ("accuracy", f"{shipped}/accuracy"))
    if changed is not None and before is not None and after is not None and after < before:
        yield (
            f"{shipped} changes the predicted class of {100 * changed:.2f} % of {TEST}, and lowers accuracy from "
            f"{100 * before:.2f} to {100 * after:.2f} %."
        )


def warning(text: str) -> str:
    """Say it at once; returns it as a report has it."""
    log.warning("%s", text)
    return f"{WARNING}{text}."


def conclude(report: Report, directory: RunDirectory, tracker: NoTracker) -> Result:
    """Write, track and show the report; call on one rank. The run is over then."""
    text, numbers = report.text(), report.findings.numbers
    log.info("report\n%s", text)
    write(report, directory.path)
    tracker.report(numbers, text)
    directory.write_report(numbers)
    say(report.text(room()))
    return Result(numbers, directory.path)


def _unlabelled(subject: Subject) -> Predictions | None:
    stream = subject.splits.streams.get("unlabelled")
    return None if stream is None else predict(subject.model, stream, subject.ranks, batch_size=subject.batch_size)
