"""From what the user gives to a Config: on the command line, in files and in Python."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from poise import registry
from poise.config.checks import (
    check_deepspeed,
    check_head,
    check_named,
    check_no_job,
    check_one_job,
    check_secrets,
    check_slurm,
    check_strategy,
    check_threat,
    check_tracking,
    check_trainer,
)
from poise.config.draft import Draft
from poise.config.expansion import with_presets
from poise.config.files import read_file, read_text, to_mapping
from poise.config.layers import Layer, from_arguments, from_file, from_values, shown
from poise.config.members import look_up, read_names, read_parameters, refuse_strangers, with_brought
from poise.config.places import check_places
from poise.config.references import with_values
from poise.config.schema import (
    DEFAULT_NAMES,
    GROUPS,
    NOTHING,
    SCALARS,
    Config,
    DataConfig,
    Entry,
    ModelConfig,
    OptimizerConfig,
    SlurmConfig,
    TrainerConfig,
)
from poise.config.stacking import check_selection, check_stack
from poise.scores import UNCALIBRATED

Own = TypeVar("Own", ModelConfig, OptimizerConfig)
Check = Callable[[Config, Draft], None]
ALWAYS: tuple[Check, ...] = (
    check_trainer,
    check_head,
    check_named,
    check_threat,
    check_slurm,
    check_tracking,
    check_secrets,
)
CHECKS: tuple[Check, ...] = (check_stack, check_strategy)
CHECKS_OF_A_START: tuple[Check, ...] = (*CHECKS, check_selection, check_places, check_no_job, check_deepspeed)
CHECKS_OF_A_SWEEP: tuple[Check, ...] = (*CHECKS, check_selection, check_places, check_deepspeed)
CHECKS_OF_A_JOB: tuple[Check, ...] = (*CHECKS_OF_A_SWEEP, check_one_job)


def parse(arguments: Sequence[str], checks: Sequence[Check] = CHECKS) -> Config:
    """The config that `path=value` arguments describe, in any order.

    Args:
        arguments: as on the command line.
        checks: further looks at the whole config than `ALWAYS`, whose mistakes are said with all others.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    draft = Draft()
    return _with_file(draft, from_arguments(arguments, draft.mistake), checks)


def compose(values: Mapping[str, Any] | None = None, checks: Sequence[Check] = CHECKS) -> Config:
    """The config that nested values describe: Python's own, or text as on the command line.

    Args:
        values: by group, nested or by path.
        checks: as of parse.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    draft = Draft()
    return _with_file(draft, from_values({} if values is None else values, draft.mistake), checks)


def from_yaml(text: str, source: str = "", checks: Sequence[Check] = CHECKS) -> Config:
    """The config that a YAML text describes, read as strings.

    Args:
        text: as `to_yaml` writes it.
        source: where it is from, for messages.
        checks: as of parse.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    draft = Draft()
    layer = from_file(read_text(text, source or "the YAML text", draft), source, draft.mistake)
    return composed(draft, [layer], checks)


def explained(
    given: Sequence[str] | Mapping[str, Any], checks: Sequence[Check] = CHECKS
) -> tuple[Config, dict[str, str]]:
    """The config that arguments or nested values describe, and where its values come from.

    Args:
        given: as of parse, or as of compose.
        checks: as of parse.

    Returns:
        The config, and by path: "preset trades_cifar10", a file, "command line", "brought by trades" …; what is not
        there is a default.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    draft = Draft()
    say = draft.mistake
    layer = from_values(given, say) if isinstance(given, Mapping) else from_arguments(given, say)
    return _with_file(draft, layer, checks), draft.origins


def _with_file(draft: Draft, top: Layer, checks: Sequence[Check]) -> Config:
    """The config of a layer over the file that its `config` names. Files do not nest."""
    values = dict(top.values)
    path = values.pop("config", None)
    file = [] if path is None else [from_file(read_file(str(path), draft), str(path), draft.mistake)]
    return composed(draft, [*file, replace(top, values=values)], checks)


def composed(draft: Draft, layers: Sequence[Layer], checks: Sequence[Check]) -> Config:
    """The config of layers, the lowest first, looked at by `ALWAYS` and further checks.

    Raises:
        ConfigErrors: all mistakes, those that the draft has already among them.
    """
    for layer in with_values(draft, with_presets(draft, layers), _tree):
        draft.add(layer)
    config = _config(draft)
    for check in (*ALWAYS, *checks):
        check(config, draft)
    draft.finish()
    return config


def _tree(layers: Sequence[Layer]) -> dict[str, Any]:
    """The whole config that layers make, nested, whatever is wrong with it."""
    draft = Draft()
    for layer in layers:
        draft.add(layer)
    return to_mapping(_config(draft))


def _config(draft: Draft) -> Config:
    recipe, calibration = _recipes(draft)
    data = _data(draft)
    model, optimizer, schedule = (
        _with_own(draft, "model", ModelConfig),
        _with_own(draft, "optimizer", OptimizerConfig),
        _single(draft, "schedule"),
    )
    augment = _list(draft, "augment", "augmentation", default_augmentations(data.name))
    evaluation = _list(draft, "evaluation", "evaluator", DEFAULT_NAMES["evaluation"])
    groups = _groups(draft)
    config = Config(
        recipe=recipe,
        calibration=calibration,
        data=data,
        augment=augment,
        evaluation=evaluation,
        tables=_tables(draft),
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        **groups,
        **draft.fields(Config, only=SCALARS),
    )
    draft.refuse_rest(list(_paths(to_mapping(config))))
    return config


def _groups(draft: Draft) -> dict[str, Any]:
    """The groups of fixed fields, as their dataclasses. A job's nodes and GPUs say how many ranks train."""
    found: dict[str, Any] = {}
    devices_level = draft.level("trainer.devices")
    size_level = max(draft.level("slurm.nodes"), draft.level("slurm.gpus"))
    for group, cls in GROUPS.items():
        found[group] = cls(**draft.fields(cls, group))
        draft.refuse_unknown(group, group, [item.name for item in fields(cls)])
    trainer, slurm = found["trainer"], found["slurm"]
    if slurm.ranks is None or (devices_level and _fits(trainer, slurm)):
        return found
    if devices_level < size_level:  # of a job's size anew and devices that are written, the new one decides
        found["trainer"] = replace(trainer, devices=slurm.ranks)
        draft.origins["trainer.devices"] = "slurm.nodes × slurm.gpus" if slurm.gpus else "slurm.nodes"
    elif slurm.gpus is not None:
        draft.mistake(
            f"trainer.devices={trainer.devices} and slurm.nodes × slurm.gpus = {slurm.ranks} differ: give one of them."
        )
    else:
        draft.mistake(
            f"trainer.devices={trainer.devices} are not equally many ranks on each of slurm.nodes={slurm.nodes}: "
            "give a multiple, or leave trainer.devices out for one rank a node."
        )
    return found


def _fits(trainer: TrainerConfig, slurm: SlurmConfig) -> bool:
    """Whether a job of some nodes and GPUs has room for a number of ranks."""
    if slurm.gpus is None:
        return trainer.devices % (slurm.nodes or 1) == 0
    return trainer.devices == slurm.ranks


def _recipes(draft: Draft) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """The stack and the calibrators. Calibrators named in `recipe=` go to `calibration`.

    Of `recipe=` and `calibration=` the higher layer decides on calibrators; in one layer they add up.
    """
    level, calibration_level = draft.level("recipe.name"), draft.level("calibration.name")
    named = read_names(draft, "recipe", ["recipe", "calibrator"], DEFAULT_NAMES["recipe"])
    own = read_names(draft, "calibration", ["calibrator"], [])
    stray = {alias: m for alias, m in named.items() if m.record and m.record.kind == "calibrator"}
    members = with_brought(draft, {alias: m for alias, m in named.items() if alias not in stray})

    if stray and calibration_level == level and not own:
        draft.mistake(f"recipe= names the calibrator {next(iter(stray))}, and calibration=none. Leave one of them out.")
    if not stray and not calibration_level:
        own = read_names(draft, "calibration", ["calibrator"], default_calibrators())
    elif calibration_level < level and stray:
        own = stray
        draft.origins["calibration.name"] = draft.origins["recipe.name"]
    elif calibration_level == level:
        own = own | stray

    recipe = read_parameters(draft, "recipe", members)
    hints = {a: f" It is a calibrator: calibration.{a}.…" for a in [*stray, *registry.records("calibrator")]}
    hints |= _unbrought(members)
    refuse_strangers(draft, "recipe", level, members, hints)
    refuse_aliases(draft, own)
    calibration = read_parameters(draft, "calibration", own)
    refuse_strangers(draft, "calibration", level if stray else calibration_level, own, {})
    return recipe, calibration


def refuse_aliases(draft: Draft, calibrators: Iterable[str]) -> None:
    """Calibrators may not be called as reports call something else."""
    for alias in calibrators:
        if alias == UNCALIBRATED or alias.endswith("accuracy"):
            draft.mistake(f"calibration=…@{alias}: reports call something else so. Take another alias.")


def default_calibrators() -> list[str]:
    """Names of those that are fitted where none is named."""
    found = registry.records("calibrator").values()
    return [record.name for record in found if record.attributes.get("default") is True] or ["none"]


def _unbrought(members: Mapping[str, Any]) -> dict[str, str]:
    """Why a member that others would bring is not there."""
    return {
        name: f" {alias} brings it only where no other member has its hook. Leave that member or this out."
        for alias, member in members.items()
        for name in (member.record.brings if member.record else {})
        if name not in members
    }


def default_augmentations(source: str) -> list[str]:
    """Names of those that training on a source takes where none is named."""
    record = registry.named("data", source)
    return list(record.attributes.get("augment") or ()) if record else []


def _list(draft: Draft, group: str, kind: str, default: Sequence[str]) -> dict[str, Entry]:
    level = draft.level(f"{group}.name")
    members = read_names(draft, group, [kind], list(default) or [NOTHING[group]])
    entries = read_parameters(draft, group, members)
    refuse_strangers(draft, group, level, members, {})
    return entries


def _with_own(draft: Draft, group: str, cls: type[Own]) -> Own:
    """A thing, its parameters at `group.parameter`, and what a config says of every one of its kind."""
    own = draft.fields(cls, group, only=registry.KINDS[group].reserved)
    entry = _single(draft, group)
    return cls(entry.name, entry.params, **own)


def _single(draft: Draft, group: str) -> Entry:
    name = draft.value(f"{group}.name", str, DEFAULT_NAMES[group])
    record = look_up(draft, f"{group}={shown(name)}", [group], name)
    if record is None:
        draft.ignore(group)
        return Entry(name)
    params = draft.parameters(group, record, {})
    known = [*(p.name for p in record.parameters), *registry.KINDS[group].reserved]
    draft.refuse_unknown(group, record.address, known)
    return Entry(record.name, params)


def _data(draft: Draft) -> DataConfig:
    """The source, its parameters at `data.parameter`, and wrappers, theirs at `data.wrapper.parameter`."""
    level = draft.level("data.name")
    members = read_names(draft, "data", ["data"], DEFAULT_NAMES["data"], rest=["wrapper"])
    source = next(iter(members.values()), None)
    wrappers = read_parameters(draft, "data", dict(list(members.items())[1:]))
    if source is None or source.record is None:
        draft.ignore("data")
        return DataConfig("", wrappers=wrappers)
    own = [p.name for p in source.record.parameters]
    for alias in set(own) & set(wrappers):
        draft.mistake(f"data=…@{alias}: {alias} is a parameter of {source.record.name}. Take another alias.")
    params = draft.parameters("data", source.record, {})
    draft.ignore("data", below_level=level)
    known = [*own, *wrappers]
    draft.refuse_unknown("data", source.record.address, known)
    return DataConfig(source.record.name, params, wrappers=wrappers)


def _tables(draft: Draft) -> dict[str, str]:
    return {path.partition(".")[2]: draft.setting(path, str, "") for path in draft.below("tables")}


def _paths(tree: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
