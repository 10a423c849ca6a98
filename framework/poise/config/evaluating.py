"""What `poise evaluate` is asked: which finished run or whose model, on which data, and what to look at."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poise import registry
from poise.config.compose import composed
from poise.config.draft import Draft
from poise.config.files import read_file
from poise.config.layers import Layer, by_alias, from_arguments, from_file, from_values, items, shown, typed
from poise.config.places import check_places
from poise.config.schema import OBJECT, TOP, Config
from poise.errors import UserError

GROUPS_TO_SET = ("data", "model", "calibration", "evaluation", "threat", "tracking")
START = "model.checkpoint"  # of the training: a run's predictor has its weights
TO_SET = ("seed", "run_dir", "config", "trainer.accelerator", "trainer.eval_batch_size", "trainer.progress")
OF_TRAINING = (
    "slurm",
    "tables",
    "run_dir",
    "resume",
    "strategy",
    "deepspeed",
    "trainer.devices",
    "model.new_head",
    "model.freeze",
)  # of a run, not of its model

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
        named: whether calibrators were named.
    """

    config: Config
    directory: Path | None = None
    trust: bool = False
    fits: bool = True
    named: bool = False


def parse_evaluation(given: Sequence[str] | Mapping[str, Any], find: Find, data_at_hand: bool = False) -> Evaluation:
    """The evaluation that `path=value` arguments, or values by path, describe.

    Args:
        given: as of `parse` or `compose`, with `run` and `trust`.
        find: from a run and the address of a tracking server to the run's directory on this machine.
        data_at_hand: whether the data of a run are given as an object, so that its config need not name them.

    Raises:
        ConfigErrors: all mistakes, one line each.
        UserError: there is no such run, or it names code that is not trusted.
    """
    draft = Draft()
    say = draft.mistake
    top = from_values(given, say) if isinstance(given, Mapping) else from_arguments(given, say)
    request, values = _split(draft, top)
    directory = None if request.run is None else find(request.run, values.get("tracking.uri"))
    _refuse_training(draft, values)
    run_dir = values.pop("run_dir", None)
    below = _file(draft, values) if directory is None else _run(draft, values, directory, request.trust)
    named = {path.partition(".")[0] for path in (*values, *below.values)} | ({"data"} if data_at_hand else set())
    for group, what in (("model", "name the model"), ("data", "name what to evaluate on")):
        if group not in named and (directory is None or group == "data"):
            how = f" ({directory} names none)" if directory else ", or give run=, a finished run"
            draft.mistake(f"{group}= is missing: {what}{how}.")
    checks = [check_places, *([_check_weights] if directory is None and "model" in named else [])]
    config = composed(draft, [below, replace(top, values=values)], checks)
    calibrators = any(path.startswith("calibration.") for path in (*values, *({} if directory else below.values)))
    return Evaluation(
        replace(config, run_dir=run_dir),
        directory,
        request.trust,
        fits=directory is None or calibrators,
        named=calibrators,
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


def check_groups(groups: Mapping[str, Any]) -> None:
    """Refuse groups of a config, nested or by path, that only a training has.

    Raises:
        ConfigErrors: one line for each.
    """
    draft = Draft()
    _refuse_training(draft, from_values(groups, draft.mistake).values)
    draft.finish()


def _refuse_training(draft: Draft, values: Mapping[str, Any]) -> None:
    for path in values:
        group = path.partition(".")[0]
        trains = group not in GROUPS_TO_SET or path in OF_TRAINING
        if group in TOP and trains and path not in TO_SET:
            draft.mistake(f"{typed(path)}: an evaluation trains nothing, so this has no effect. Leave it out.")


def _file(draft: Draft, values: dict[str, Any]) -> Layer:
    """What the file says that `config` names; nothing without one."""
    path = values.pop("config", None)
    return _read(draft, "" if path is None else str(path))


def _names_files(model: str) -> bool:
    """Whether a model has to be told where something lies: its weights may be there."""
    record = registry.find("model", model)
    return any(one.required and one.type is str and one.name not in record.bound for one in record.parameters)


def _check_weights(config: Config, draft: Draft) -> None:
    """A function of one's own may load weights itself; a name that many may use has none."""
    model = config.model
    if any(said.startswith("model=") for said in draft.mistakes):
        return
    if not model.name or ":" in model.name or _names_files(model.name):
        return
    if model.checkpoint is None and not model.params.get("pretrained"):
        draft.mistake(f"model.checkpoint= is missing: {shown(model.name)} alone has random weights.")


def _run(draft: Draft, values: dict[str, Any], directory: Path, trust: bool) -> Layer:
    """What the config of a run says that can be said of its predictor."""
    if values.pop("config", None) is not None:
        draft.mistake("config= and run= are both given: a run has its config with it.")
    for path in values:
        if path.startswith("model.") or path == "seed":
            draft.mistake(f"{typed(path)}: the run has its own. Leave it out, or leave run= out.")
        elif path.startswith("data.") and "data.name" not in values:
            draft.mistake(
                f"{path}: the run's splits stay as they were, so that nothing it trained on is tested on. "
                "Name other data whole: data=…"
            )
    config = directory / "config.yaml"
    layer = _without_objects(_read(draft, str(config) if config.is_file() else ""))
    if _same_data(values, layer.values) and not _only_adds(values, layer.values):
        own = ",".join(items(layer.values["data.name"]))
        draft.mistake(
            f"data={shown(values['data.name'])}: the run was trained on these, and its splits stay as they were. "
            f"Leave data out, or add to it: data={own},<wrapper> with one of {', '.join(_adders())}."
        )
    if not trust:
        _refuse_code(layer, directory)
    return replace(layer, values={path: value for path, value in layer.values.items() if path != START})


def _same_data(values: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether data named for an evaluation are those of the run, of the same source and the same files."""
    (source, *_), (before, *_) = (items(layer.get("data.name")) or [""] for layer in (values, own))
    if not source or source != before or source not in registry.records("data"):
        return False
    files: Iterable[str] = registry.find("data", source).attributes.get("files") or ()
    both = ((own.get(f"data.{name}"), values.get(f"data.{name}", own.get(f"data.{name}"))) for name in files)
    return all(_resolved(theirs) == _resolved(named) for theirs, named in both)


def _only_adds(values: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether a run's own data are named, with nothing changed but wrappers behind them that add test sets."""
    named, before = items(values["data.name"]), items(own["data.name"])
    further = by_alias(named[len(before) :])
    settings = {path.split(".")[1] for path in values if path.startswith("data.") and path != "data.name"}
    adders = set(further.values()) <= set(_adders())
    return named[: len(before)] == before and bool(further) and adders and settings <= set(further)


def _adders() -> list[str]:
    """Wrappers that leave the four splits as they are."""
    return [record.name for record in registry.records("wrapper").values() if record.attributes.get("adds") is True]


def _resolved(path: Any) -> Path | None:
    return None if path is None else Path(str(path)).absolute()


def _read(draft: Draft, path: str) -> Layer:
    tree = read_file(path, draft) if path else {}
    layer = from_file(tree, path, draft.mistake)
    kept = {p: v for p, v in layer.values.items() if p not in OF_TRAINING and p.partition(".")[0] not in OF_TRAINING}
    return replace(layer, values=kept)


def _without_objects(layer: Layer) -> Layer:
    """What was given as an object cannot be made from its name."""
    values = dict(layer.values)
    for group in ("data", "model"):
        if any(_is_object(name) for name in items(values.get(f"{group}.name"))):
            values = {path: value for path, value in values.items() if not path.startswith(f"{group}.")}
    stack = [name for name in items(values.get("recipe.name")) if not _is_object(name)]
    return replace(layer, values=values | ({"recipe.name": stack or "plain"} if "recipe.name" in values else {}))


def _is_object(name: str) -> bool:
    return name.startswith(f"{OBJECT}:")


def _refuse_code(layer: Layer, directory: Path) -> None:
    """What a run names is imported only where poise knows it, for a run may be anybody's."""
    for path, value in layer.values.items():
        if path.endswith(".name") and (code := next((name for name in items(value) if ":" in name), None)):
            raise UserError(
                f"{directory} names code that poise does not know, {shown(code)}: give trust=true if you trust it"
            )
