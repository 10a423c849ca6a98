"""A run from config to report: build → fit → calibrate → evaluate → ship."""

import copy
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from poise import checkpoint, company, saving
from poise.assessment import calibrate, conclude, evaluate, learnt, remarks, ship
from poise.build import Built
from poise.calibration import Calibration
from poise.calibrator import Calibrator
from poise.card import Card
from poise.checkpoint import Manifest
from poise.config import Config, Entry, to_yaml, written
from poise.console import EVALUATING, without_chatter
from poise.course import course
from poise.data.dataset import Splits
from poise.data.identity import identity_of
from poise.data.source import DataSource
from poise.disk import disk_told
from poise.distributed import Ranks, current_ranks
from poise.errors import UserError
from poise.evaluator import Findings, Subject
from poise.first_words import of_report
from poise.given import Objects, config_of
from poise.history import History
from poise.last_words import last_words
from poise.launching import OWN_LAUNCHER, RankLost, launch, speaks, under_launcher
from poise.memory import memory_told, smaller_evaluation, smaller_training
from poise.module import TrainingModule
from poise.parts import described
from poise.predictor import Predictor
from poise.progress import progress_bar, say
from poise.recipe import Recipe
from poise.report import Report, used
from poise.result import Result
from poise.run_directory import RunDirectory, default_path, failures_logged, logged
from poise.scores import UNCALIBRATED
from poise.stopping import CODES, Requests, Stopped
from poise.strategies import is_zero
from poise.tables import write_table
from poise.tracking.tracker import NoTracker, send_rest, tracked
from poise.trainer import trainer_of
from poise.watch import NonFiniteLoss
from poise.world import check_world, world_of

log = logging.getLogger("poise")

RESTARTS = 3  # of a job, after which it has to get on each time


def fit(
    recipe: str | Recipe | Sequence[str | Recipe | Calibrator] | Mapping[str, Any] = (),
    data: str | Mapping[str, Any] | Splits | DataSource | None = None,
    model: str | Mapping[str, Any] | nn.Module | None = None,
    **groups: Any,
) -> Result:
    """Train, calibrate, evaluate and ship.

    Args:
        recipe: names ("trades,mixup"), one recipe or a list of them, or a mapping by alias.
        data: a name, a mapping with a name and parameters, a source, or splits; None is what a preset names, else
            digits.
        model: a name, a mapping with a name and parameters, or any module from inputs to logits; None is what a preset
            names, else small_cnn.
        groups: the config's other groups: trainer={"max_epochs": 10}, optimizer={"name": "adamw", "lr": 1e-3},
            threat, calibration, evaluation, strategy, selection, seed, run_dir, resume ….

    Raises:
        UserError: a config that cannot be run, with all that is wrong with it.
    """
    return run(*config_of(recipe, data, model, groups))


def main(config: Config) -> int:
    """Run a config for the command line; returns the exit code."""
    result = run(config)
    if speaks():
        say(last_words(config, result.path))
    return 0


def run(config: Config, objects: Objects | None = None) -> Result:
    """Run a config, on ranks of its own where it asks for several devices."""
    objects = objects or Objects()
    if config.run_dir is None:
        if under_launcher():
            raise UserError("ranks that something else started must agree on a directory: give run_dir")
        config = replace(config, run_dir=str(default_path(tuple(config.recipe))))
    check_world(config)
    directory, first = RunDirectory(Path(str(config.run_dir))), world_of(config).first
    if first:
        directory.check(to_yaml(config), resume=config.resume == "auto")
    if directory.finished:
        result = Result(directory.metrics(), directory.path)
        if first:
            say(f"{directory.path} is finished; its report:\n{directory.told()}")
            send_rest(config, directory)
        return result
    _refuse_objects(config, objects)
    built = Built(config, objects)
    built.admit()
    data = identity_of(built.splits)
    directory.check_data(data)
    if _several(config) and not under_launcher():
        with directory.held():  # as rank 0 will: who is in the way is said before ranks start
            directory.claim(_continuing(config))
        return _run_on_ranks(config, directory)
    with directory.held() if first else nullcontext():
        if first:
            directory.claim(_continuing(config))
            directory.keep_data(data)
        with (
            logged(directory.log) if first else nullcontext(),
            tracked(config, directory, first=first) as tracker,
            failures_logged(),
            Requests(told=first) as requests,
            company.kept(config.trainer.timeout),
            disk_told(directory.path, partial(_way_on, directory)),
        ):
            return _run_here(built, directory, tracker, requests)


def _continuing(config: Config) -> str:
    """What is written continues the run."""
    return to_yaml(replace(config, resume="auto"))


def _refuse_objects(config: Config, objects: Objects) -> None:
    if _several(config) and not under_launcher() and objects.unwritable:
        raise UserError(
            f"trainer.devices={config.trainer.devices} with strategy={config.strategy} starts processes of its own, "
            f"which cannot get what this one holds: {objects.unwritable}"
        )


def _run_on_ranks(config: Config, directory: RunDirectory) -> Result:
    try:
        code = launch(directory.config, config.trainer.devices, log_dir=directory.ranks)
    except RankLost as lost:
        raise RankLost(f"{lost}; {_way_on(directory)}") from None
    if code in CODES.values():
        number = next(number for number in CODES if CODES[number] == code)
        raise Stopped(number, _stopped(number, directory))
    if code:
        raise RankLost(f"see {directory.log}; {_way_on(directory)}", code)
    return Result(directory.metrics(), directory.path)


def _run_here(built: Built, directory: RunDirectory, tracker: NoTracker, requests: Requests) -> Result:
    before = saving.last_step(directory.checkpoints)
    try:
        tracker.data(built.splits)
        with memory_told(partial(_less_memory, built.config, directory)):
            finished, chosen = _fit(built, directory, tracker, requests)
        with memory_told(partial(_less_memory_after, built.config, directory)):
            return _finish(finished, chosen, built, directory, tracker)
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        if number == signal.SIGUSR1 and _goes_round(before, directory):
            raise RuntimeError(
                "asked to stop once more without having got on: give the run more time (slurm.time); "
                f"{_way_on(directory)}"
            ) from None
        told = "" if OWN_LAUNCHER in os.environ else _stopped(number, directory)
        raise Stopped(number, told) from None


def _finish(
    finished: TrainingModule, chosen: Manifest, built: Built, directory: RunDirectory, tracker: NoTracker
) -> Result:
    """Calibrate, evaluate and ship what was trained."""
    ranks = current_ranks()
    logged_last = _after_fit(finished, built, directory, ranks)
    subject = _subject(finished, built, ranks, directory)
    calibration = calibrate(subject, built.calibrators)
    evaluated = evaluate(subject, calibration, built.evaluators.values())
    findings = Findings.merged([Findings(logged_last), evaluated, learnt(subject)])
    if ranks.rank == 0:
        ship(_predictor(finished, built), calibration, built.config, directory)
        findings = Findings.merged([course(chosen, History(directory.curves).read()), findings])
        told = remarks(subject, calibration, findings, calibration.reason)
        conclude(_report(built, calibration, findings, told, directory), directory, tracker)
    ranks.barrier()
    return Result(findings.numbers, directory.path)


def _goes_round(before: int | None, directory: RunDirectory) -> bool:
    """Whether a job that was taken up again and again did not get on this time: it would not stop to be."""
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
    return restarts >= RESTARTS and saving.last_step(directory.checkpoints) == before


def _fit(
    built: Built, directory: RunDirectory, tracker: NoTracker, requests: Requests
) -> tuple[TrainingModule, Manifest]:
    """Train, and return a module with the best epoch's weights that nothing wraps, and that epoch's checkpoint."""
    if built.config.trainer.precision == "64-true":
        built.module.double()  # before a checkpoint is taken up, which would be rounded
    finished = copy.deepcopy(built.module)
    with without_chatter():
        trainer = trainer_of(built, directory, tracker, requests)
    resumed = checkpoint.newest(directory.checkpoints)
    if world_of(built.config).first:
        History(directory.curves).go_on_from(resumed.facts["step"] if resumed else 0)
    path: Path | None = None
    if resumed is None and saving.any_left(directory.checkpoints):
        log.warning("no checkpoint of %s is whole: the training begins again", directory.path)
    if resumed is not None:
        log.info("resuming from %s", resumed.directory)
        if world_of(built.config).first:
            say(f"Going on from step {resumed.facts['step']}")
        built.module.resume_rank_state(partial(saving.rank_state, resumed))
        path = resumed.state
    if built.config.trainer.compile:
        built.module.model.compile()
    try:
        with requests.patiently(), without_chatter(*([EVALUATING] if built.model.keeps else [])):
            trainer.fit(built.module, built.data, ckpt_path=path, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    except saving.Ending as end:
        raise Stopped(end.number) from None
    except NonFiniteLoss as error:
        kept = checkpoint.newest(directory.checkpoints)
        raise NonFiniteLoss(f"{error}; last good checkpoint: {kept.directory if kept else 'none'}") from None
    if built.module.stop_reason:
        log.warning("stopped early: %s", built.module.stop_reason)
    chosen = saving.best(directory.checkpoints)
    if chosen is None:
        raise RuntimeError("the run ended before its first epoch was validated: train for at least one epoch")
    log.info("best epoch: %s with %s=%.4f", chosen.facts["epoch"] + 1, built.selection, chosen.facts["score"])
    saving.load_weights(chosen, finished)
    finished.metrics = {n: v for n, v in chosen.facts["metrics"].items() if n.startswith("val/")}
    return finished.to(device=trainer.strategy.root_device), chosen


def _stopped(number: int, directory: RunDirectory) -> str:
    what = "Interrupted" if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}"
    return f"{what}: {_way_on(directory)}."


def _way_on(directory: RunDirectory) -> str:
    step = saving.last_step(directory.checkpoints)
    goes_on = "begins again" if step is None else f"goes on from step {step}"
    return f"the same command with run_dir={directory.path} {goes_on}"


def _less_memory(config: Config, directory: RunDirectory) -> str:
    kept = checkpoint.newest(directory.checkpoints)
    last = f"last checkpoint: {kept.directory}, for the config as it was" if kept else "no checkpoint was written yet"
    return f"{smaller_training(config.trainer)}; {last}"


def _less_memory_after(config: Config, directory: RunDirectory) -> str:
    smaller = smaller_evaluation(config.trainer)
    return f"the training is done, and the same command with run_dir={directory.path} {smaller} goes on from there"


def _after_fit(finished: TrainingModule, built: Built, directory: RunDirectory, ranks: Ranks) -> dict[str, float]:
    """Let the recipes refit what they refit; returns the chosen epoch's metrics and what they logged."""
    metrics = dict(finished.metrics)

    def note(name: str, value: Any) -> None:
        metrics[name] = float(value)

    step = finished.detached_step(ranks).replace(log=note)
    for name, table in finished.stack.after_fit(step).items():
        if ranks.rank == 0:
            write_table(directory.tables, name, table)
    return metrics


def _subject(finished: TrainingModule, built: Built, ranks: Ranks, directory: RunDirectory) -> Subject:
    progress = progress_bar(shown=built.config.trainer.progress and ranks.rank == 0)
    return Subject(
        finished.model,
        built.splits,
        built.threat,
        ranks=ranks,
        seed=built.config.seed,
        batch_size=built.config.trainer.eval_batch_size,
        progress=progress,
        kept=directory.attacks,
    )


def _predictor(finished: TrainingModule, built: Built) -> Predictor:
    """The model with what its card says of it, not calibrated."""
    head_owner, _ = built.stack.owner("head")
    linear = type(finished.model.head) is nn.Linear
    card = Card(
        input_shape=built.splits.input_shape,
        class_names=built.splits.class_names,
        valid_range=built.splits.valid_range,
        model=described(built.config.model),
        head=None if linear or head_owner == "plain" else described(_entry(built, head_owner)),
        linear_head=linear and head_owner != "plain",
    )
    return Predictor(finished.model, card)


def _report(
    built: Built, calibration: Calibration, findings: Findings, told: Sequence[str], directory: RunDirectory
) -> Report:
    return Report(
        title=directory.path.resolve().name,
        findings=findings,
        calibrators=tuple(calibration.calibrators),
        remarks=tuple(told),
        uses=used(built.splits, list(calibration.calibrators), built.selection),
        config=to_yaml(built.config),
        about=of_report(built.config, trained=True),
        shipped=calibration.shipped or UNCALIBRATED,
    )


def _entry(built: Built, alias: str) -> Entry:
    """A member's entry in the config, where one that an object brought does not stand."""
    return built.config.recipe.get(alias) or Entry(*written(built.stack.members[alias]))


def _several(config: Config) -> bool:
    return config.trainer.devices > 1 or is_zero(config.strategy)
