"""What `poise evaluate` is asked: which finished run or whose model, on which data, and what to look at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poise.config.compose import composed
from poise.config.draft import Draft
from poise.config.files import read_file
from poise.config.layers import Layer, from_arguments, from_file, from_values, items, shown, typed
from poise.config.places import check_places
from poise.config.schema import TOP, Config
from poise.errors import UserError

GROUPS_TO_SET = ("data", "model", "calibration", "evaluation", "threat", "tracking")
TO_SET = ("seed", "run_dir", "config", "trainer.accelerator", "trainer.progress")
OF_TRAINING = ("slurm", "tables", "run_dir", "resume", "strategy", "trainer.devices")  # of a run, not of its model

Find = Callable[[str, str | None], Path]


@dataclass(frozen=True)
class Request:
    """What of an evaluation is not in a config.

    Args:
        run: a run's directory or its id in MLflow; None for a model that `model=` names.
        trust: whether code that the run's predictor names but poise does not know may be imported.
    """

    run: str | None = None
    trust: bool = False


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, composed.

    Args:
        config: of the run with what was given on top; without a run, of what was given.
        directory: of the run; None without one.
        trust: as of Request.
        fits: whether calibrators are fitted: those of a run are fitted already, unless others are named.
    """

    config: Config
    directory: Path | None = None
    trust: bool = False
    fits: bool = True


def parse_evaluation(given: Sequence[str] | Mapping[str, Any], find: Find) -> Evaluation:
    """The evaluation that `path=value` arguments, or values by path, describe.

    Args:
        given: as of `parse` or `compose`, with `run` and `trust`.
        find: from a run and the address of a tracking server to the run's directory on this machine.

    Raises:
        ConfigErrors: all mistakes, one line each.
        UserError: there is no such run, or it names code that is not trusted.
    """
    draft = Draft()
    say = draft.mistake
    top = from_values(given, say) if isinstance(given, Mapping) else from_arguments(given, say)
    request, values = _split(draft, top)
    directory = None if request.run is None else find(request.run, values.get("tracking.uri"))
    _refuse(draft, values, directory)
    run_dir = values.pop("run_dir", None)
    layers = [*_file(draft, values, directory), replace(top, values=values)]
    if directory is not None and not request.trust:
        _refuse_code(layers[0], directory)
    config = composed(draft, layers, [check_places])
    return Evaluation(
        replace(config, run_dir=run_dir),
        directory,
        request.trust,
        fits=directory is None or any(path.startswith("calibration.") for path in values),
    )


def _split(draft: Draft, top: Layer) -> tuple[Request, dict[str, Any]]:
    """What only an evaluation has, and the rest."""
    own = {path: value for path, value in top.values.items() if path in ("run", "trust")}
    asked = Draft()
    asked.add(replace(top, values=own))
    request = Request(**asked.fields(Request))
    for mistake in asked.mistakes:
        draft.mistake(mistake)
    return request, {path: value for path, value in top.values.items() if path not in own}


def _refuse(draft: Draft, values: Mapping[str, Any], directory: Path | None) -> None:
    for path in values:
        if path.partition(".")[0] in TOP and path.partition(".")[0] not in GROUPS_TO_SET and path not in TO_SET:
            draft.mistake(f"{typed(path)}: an evaluation trains nothing, so this has no effect. Leave it out.")
    named = "config" in values
    if directory is None:
        for group, what in (("model", "the model: module:make, say"), ("data", "what to evaluate it on")):
            if f"{group}.name" not in values and not named:
                draft.mistake(f"{group}= is missing: name {what}; or give run=, a finished run.")
        return
    if named:
        draft.mistake("config= and run= are both given: a run has its config with it.")
    for path in values:
        if path.startswith("model.") or path == "seed":
            draft.mistake(f"{typed(path)}: the run has its own. Leave it out, or leave run= out.")
        elif path.startswith("data.") and "data.name" not in values:
            draft.mistake(
                f"{path}: the run's splits stay as they were, so that nothing it trained on is tested on. "
                "Name other data whole: data=…"
            )
    if not (directory / "config.yaml").is_file() and "data.name" not in values:
        draft.mistake(f"data= is missing: {directory} has no config.yaml that says what to evaluate on.")


def _refuse_code(config: Layer, directory: Path) -> None:
    """What a run names is imported only where poise knows it, for a run may be anybody's."""
    for path, value in config.values.items():
        if path.endswith(".name") and (code := next((name for name in items(value) if ":" in name), None)):
            raise UserError(
                f"{directory} names code that poise does not know, {shown(code)}: give trust=true if you trust it"
            )


def _file(draft: Draft, values: dict[str, Any], directory: Path | None) -> list[Layer]:
    """The layer under what was given: the run's config, or a file's."""
    path = values.pop("config", None) if directory is None else directory / "config.yaml"
    if path is None or (directory is not None and not Path(path).is_file()):
        return []
    layer = from_file(read_file(str(path), draft), str(path), draft.mistake)
    kept = {p: v for p, v in layer.values.items() if p not in OF_TRAINING and p.partition(".")[0] not in OF_TRAINING}
    return [replace(layer, values=kept)]
