"""A finished run looked at again, or a model that poise never trained: calibrate → evaluate → report."""

import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from poise.assessment import calibrate, check_calibration, check_evaluators, conclude, remarks, ship, warning
from poise.assessment import evaluate as evaluate_subject
from poise.calibration import Calibration
from poise.calibrator import Calibrator
from poise.card import Card
from poise.chance import no_better_than_chance
from poise.config import Config, DataConfig, Entry, to_yaml, written
from poise.config.evaluating import Evaluation, check_groups, parse_evaluation
from poise.config.schema import OBJECT, ModelConfig
from poise.data.dataset import Splits
from poise.data.source import DataSource
from poise.errors import UserError
from poise.evaluator import Evaluator, Findings, Subject
from poise.first_words import of_report
from poise.given import Objects, config_of
from poise.last_words import last_words
from poise.located import located
from poise.memory import memory_told, smaller_evaluation
from poise.modes import flags_given_back
from poise.parts import described, device_of, load_model, load_splits, made, threat_of
from poise.predictions import predict
from poise.predictor import Predictor
from poise.progress import progress_bar, say
from poise.report import Report, used
from poise.result import Result
from poise.run_directory import RunDirectory, default_path, failures_logged, logged
from poise.scores import TEST, UNCALIBRATED
from poise.stopping import Stopped
from poise.suspicion import no_logits, repeated, trained_on
from poise.tracking.tracker import NoTracker, run_id, send_rest, tracked

OWN = "The calibrator is the one that the run shipped."
NONE = "The run shipped no calibrator."
OF_TRAINING = (
    *("recipe", "optimizer", "schedule", "trainer", "slurm", "tables"),
    *("strategy", "deepspeed", "selection", "resume"),
)

log = logging.getLogger("poise")


def evaluate(
    model: str | Mapping[str, Any] | nn.Module | None = None,
    data: str | Mapping[str, Any] | Splits | DataSource | None = None,
    run: str | Path | None = None,
    trust: bool = False,
    **groups: Any,
) -> Result:
    """Calibrate, evaluate and report a model that poise never trained; or evaluate and report a finished run again.

    Args:
        model: any module from inputs to logits, or a name; with `run`, an instance for a run whose model was one. An
            instance has its modes and gradients as before when this is done; one in half precision is in float32.
        data: a name, a mapping, a source or splits; None with `run` for the run's own.
        run: directory or MLflow id of a finished run.
        trust: whether code that the run's predictor names but poise does not know may be imported.
        groups: evaluation, calibration, threat, tracking, run_dir …, as of `fit`.

    Raises:
        UserError: an evaluation that cannot be made, with all that is wrong with it.
    """
    if run is None:
        if model is None or data is None:
            raise UserError("evaluate() needs model= and data=, or run=, a finished run.")
        check_groups(groups)
        config, objects = config_of((), data, model, groups)
        with _left_alone(model):
            return _evaluated(Evaluation(config, named="calibration" in groups), objects)
    if model is not None and not isinstance(model, nn.Module):
        raise UserError("evaluate(run=…) takes the run's own model: leave model= out, or give an instance of it.")
    splits = data if isinstance(data, Splits) else None
    given = {**groups, **_named(data), "run": str(run), "trust": trust}
    asked = parse_evaluation(given, located, data_at_hand=splits is not None)
    config = asked.config
    if splits is not None:
        config = replace(config, data=DataConfig(f"{OBJECT}:Splits"))
    if model is not None:
        config = replace(config, model=ModelConfig(f"{OBJECT}:{type(model).__name__}"))
    with _left_alone(model):
        return _evaluated(replace(asked, config=config), Objects(model=model, data=splits))


def _left_alone(model: object) -> AbstractContextManager[None]:
    return flags_given_back(model) if isinstance(model, nn.Module) else nullcontext()


def _named(data: str | Mapping[str, Any] | Splits | DataSource | None) -> dict[str, Any]:
    """Data as a config has them; nothing where there are none, or splits."""
    if isinstance(data, DataSource):
        name, params = written(data)
        data = {"name": name, **params}
    return {"data": data} if isinstance(data, str | Mapping) else {}


def main(asked: Evaluation) -> int:
    """Evaluate for the command line; returns the exit code."""
    result = _evaluated(asked, Objects())
    say(last_words(asked.config, result.path))
    return 0


def _evaluated(asked: Evaluation, objects: Objects) -> Result:
    evaluators: dict[str, Evaluator] = made("evaluator", "evaluation", asked.config.evaluation)
    splits = load_splits(asked.config, objects)
    predictor = _restored(asked, objects) if asked.directory else _foreign(asked.config, objects, splits)
    splits = _named_alike(splits, predictor.card)
    _check_fit(predictor.card, splits)
    config = _settled(asked, predictor.card, splits)
    if asked.fits and config.calibration:
        check_calibration(splits, config.calibration)
    calibrators = made("calibrator", "calibration", config.calibration)
    check_evaluators(splits, evaluators)
    directory = RunDirectory(Path(str(config.run_dir)))
    subject = _subject(config, predictor, splits, directory)
    if directory.finished and directory.config.read_text(encoding="utf-8") == to_yaml(config):
        return _again(config, directory)
    directory.check_new()
    with directory.held(), _interruption_told(directory):
        directory.claim(to_yaml(config))
        with logged(directory.log), _tracked(config, directory, asked.directory) as tracker, failures_logged():
            log.info("evaluating %s", asked.directory or config.model.name)
            tracker.data(splits, ["test"])
            if asked.fits:
                calibration = calibrate(subject, calibrators)
                ship(predictor, calibration, config, directory)
            else:
                calibration = _own(predictor, config)
            with memory_told(lambda: f"set {smaller_evaluation(config.trainer)}"):
                findings = evaluate_subject(subject, calibration, evaluators.values())
            told = _remarks(asked, subject, calibration, findings)
            return conclude(_report(asked, config, splits, calibration, findings, told), directory, tracker)


@contextmanager
def _interruption_told(directory: RunDirectory) -> Iterator[None]:
    """Say of an evaluation that Ctrl-C ends how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        goes_on = "goes on with what was kept" if directory.attacks.exists() else "begins again"
        told = f"Interrupted: the same command with run_dir={directory.path} {goes_on}."
        raise Stopped(signal.SIGINT, told) from None


def _again(config: Config, directory: RunDirectory) -> Result:
    """The same evaluation is done: its report is shown, and what was not tracked is sent."""
    say(f"{directory.path} is finished; its report:\n{directory.told()}")
    send_rest(config, directory)
    return Result(directory.metrics(), directory.path)


def _tracked(config: Config, directory: RunDirectory, run: Path | None) -> AbstractContextManager[NoTracker]:
    """Track as a run of its own, below the one that is evaluated."""
    what = run.resolve().name if run else config.model.name
    return tracked(config, directory, first=True, parent=run_id(run) if run else None, tags={"evaluated": what})


def _restored(asked: Evaluation, objects: Objects) -> Predictor:
    """The predictor that a run shipped."""
    return Predictor.load(str(asked.directory), model=objects.model, trust=asked.trust)


def _foreign(config: Config, objects: Objects, splits: Splits) -> Predictor:
    """Somebody's model, as a predictor without a calibrator."""
    card = Card(
        input_shape=splits.input_shape,
        class_names=splits.class_names,
        valid_range=splits.valid_range,
        model=described(config.model),
    )
    model = load_model(config, objects, splits)
    if objects.model is None and config.model.checkpoint is None:
        _refuse_random(model, load_model(replace(config, seed=config.seed + 1), objects, splits), config.model.name)
    if any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in model.parameters()):
        model.float()  # attacks and calibrators need more
    return Predictor(model, card)


def _refuse_random(model: nn.Module, again: nn.Module, name: str) -> None:
    """Weights that another seed changes are nobody's."""
    if any(not torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True)):
        raise UserError(f"model={name} draws weights at random: give model.checkpoint=<file of its weights>")


def _named_alike(splits: Splits, card: Card) -> Splits:
    """Data that only number their classes, and need not have examples of all, have the predictor's."""
    numbered = splits.class_names == tuple(map(str, range(splits.num_classes)))
    if not numbered or splits.num_classes > len(card.class_names):
        return splits
    return replace(splits, num_classes=len(card.class_names), class_names=tuple(card.class_names))


def _check_fit(card: Card, splits: Splits) -> None:
    """Refuse data that are not the predictor's kind: other shapes, ranges or classes."""
    for what, own, given in (
        ("inputs of shape", tuple(card.input_shape), tuple(splits.input_shape)),
        ("a valid range of", card.valid_range, splits.valid_range),
        ("a number of classes of", len(card.class_names), splits.num_classes),
    ):
        if own != given:
            raise UserError(
                f"the data have {what} {given}, the run's predictor {own}: evaluate it on data of its kind."
            )
    own_names, names = list(card.class_names), list(splits.class_names)
    if own_names != names and sorted(own_names) == sorted(names):
        raise UserError(f"the data's classes are in another order ({', '.join(names[:3])} …) than the run's.")


def _settled(asked: Evaluation, card: Card, splits: Splits) -> Config:
    """The config with a directory of its own, and with the calibrators that there are."""
    config = asked.config
    if not asked.fits:
        config = replace(config, calibration=_shipped(card))
    elif not asked.named and not len(splits.calibration):
        config = replace(config, calibration={})  # those by default, which need something to fit to
    if config.run_dir is None:
        name = asked.directory.resolve().name if asked.directory else config.model.name
        config = replace(config, run_dir=str(default_path(("evaluate", name))))
    return config


def _shipped(card: Card) -> dict[str, Entry]:
    """A predictor's calibrator as a config names it."""
    if card.calibrator is None:
        return {}
    name = str(card.calibrator["name"])
    return {name.rpartition(":")[2]: Entry(name, dict(card.calibrator["parameters"]))}


def _own(predictor: Predictor, config: Config) -> Calibration:
    """What the run fitted, as it is."""
    fitted = predictor.calibrator
    calibrators = {alias: fitted for alias in config.calibration if isinstance(fitted, Calibrator)}
    return Calibration(calibrators, next(iter(calibrators), None), {}, 0)


def _subject(config: Config, predictor: Predictor, splits: Splits, directory: RunDirectory) -> Subject:
    device = device_of(config)
    return Subject(
        predictor.model.to(device),
        splits,
        threat_of(config, splits),
        seed=config.seed,
        batch_size=config.trainer.eval_batch_size,
        progress=progress_bar(shown=config.trainer.progress),
        kept=directory.attacks,
    )


def _remarks(asked: Evaluation, subject: Subject, calibration: Calibration, findings: Findings) -> list[str]:
    splits = subject.splits
    test = predict(subject.model, splits.test, subject.ranks, batch_size=subject.batch_size)
    if chance := no_better_than_chance(test, TEST):
        doubt = f"{chance}: look whether the data have its classes in its order, and inputs in its range"
        findings = replace(findings, doubts=(*findings.doubts, doubt))
    if not asked.fits:
        return remarks(subject, replace(calibration, shipped=None), findings, OWN if calibration.calibrators else NONE)
    doubts = [no_logits(test)]
    if calibration.calibrators:
        held_out = predict(subject.model, splits.calibration, subject.ranks, batch_size=subject.batch_size)
        doubts += [repeated(splits.calibration, splits.test), trained_on(held_out, test)]
    told = remarks(subject, calibration, findings, calibration.reason)
    return [*told, *(warning(doubt) for doubt in doubts if doubt)]


def _report(
    asked: Evaluation,
    config: Config,
    splits: Splits,
    calibration: Calibration,
    findings: Findings,
    told: Sequence[str],
) -> Report:
    names = tuple(calibration.calibrators)
    return Report(
        title=f"Evaluation of {asked.directory or config.model.name}",
        findings=findings,
        calibrators=names,
        remarks=tuple(told),
        uses=used(splits, names if asked.fits else ()),
        config=to_yaml(config, *(() if asked.directory else OF_TRAINING)),
        about=of_report(config, trained=bool(asked.directory)),
        shipped=calibration.shipped or UNCALIBRATED,
    )
