"""What can be said of a config as a whole before anything is built."""

from collections.abc import Iterator, Mapping
from typing import Any

from poise import registry, strategies, zero_settings
from poise.config.draft import Draft
from poise.config.files import to_mapping
from poise.config.job_options import mistakes_in_extra, mistakes_in_notice, mistakes_in_time
from poise.config.layers import shown
from poise.config.members import look_up
from poise.config.schema import Config
from poise.data.blocks import check_sizes
from poise.errors import UserError
from poise.secrets import found_in
from poise.tracking import address


def check_trainer(config: Config, draft: Draft) -> None:
    """Batch, devices, micro-batches and blocks have to fit each other."""
    trainer = config.trainer
    sizes = (trainer.batch_size, trainer.devices, trainer.accumulate, trainer.block_size)
    try:
        check_sizes(*sizes)
    except UserError as error:
        draft.mistake(str(error))


def check_head(config: Config, draft: Draft) -> None:
    """A fresh head in place of a file's needs the file."""
    if config.model.new_head and config.model.checkpoint is None:
        draft.mistake("model.new_head=true has no effect without model.checkpoint: fresh weights have a fresh head.")


def check_named(config: Config, draft: Draft) -> None:
    """Names of the registry that wrappers are given."""
    for alias, entry in config.data.wrappers.items():
        for parameter, kind in registry.find("wrapper", entry.name).attributes.get("named", {}).items():
            for name in entry.params.get(parameter) or ():
                look_up(draft, f"data.{alias}.{parameter}={shown(name)}", [kind], name)


def check_strategy(config: Config, draft: Draft) -> None:
    """A strategy that cannot train so, and settings for DeepSpeed that do not fit it."""
    try:
        strategies.check_strategy(config.strategy, config.trainer.precision)
    except UserError as error:
        draft.mistake(str(error))
    for mistake in zero_settings.mistakes_in_settings(config.strategy, config.deepspeed):
        draft.mistake(mistake)


def check_deepspeed(config: Config, draft: Draft) -> None:
    """Settings that DeepSpeed itself does not take, before ranks are started."""
    if draft.mistakes or not config.deepspeed:
        return
    if said := zero_settings.refused_settings(config.strategy, config.deepspeed):
        draft.mistake(said)


def check_slurm(config: Config, draft: Draft) -> None:
    """A time limit that Slurm would read as another one, and what does not fit into a job's script."""
    for name, value in vars(config.slurm).items():
        if isinstance(value, str) and name not in ("time", "setup") and not (value and value.isprintable()):
            draft.mistake(f"slurm.{name}={shown(value)!r} has to be one line that is not empty; leave it out for none.")
    for mistakes_in in (mistakes_in_time, mistakes_in_notice, mistakes_in_extra):
        for mistake in mistakes_in(config.slurm):
            draft.mistake(mistake)


def check_secrets(config: Config, draft: Draft) -> None:
    """What config.yaml would show to everybody who may read a run is no place for a secret."""
    for path, value in _texts("", to_mapping(config)):
        kind = found_in(value)
        if kind and path == "tracking.uri":
            draft.mistake(
                f"tracking.uri holds {kind}, which would be written to config.yaml: "
                f"set {address.VARIABLE} in the environment and leave tracking.uri out."
            )
        elif kind:
            draft.mistake(f"{path} holds {kind}, which would be written to config.yaml: keep it in a file of its own.")


def check_tracking(config: Config, draft: Draft) -> None:
    """An address that MLflow cannot read is said before anything is trained, and so is the environment's."""
    given = address.given(config.tracking.uri)
    if config.tracking.name == "none" or given is None:
        return
    if mistake := address.mistake(given):
        name = "tracking.uri" if config.tracking.uri else address.VARIABLE
        draft.mistake(f"{name}={shown(given)} {mistake}.")


def _texts(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """The strings in nested values, by path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(prefix, inner)
    elif isinstance(value, str):
        yield prefix, value


def check_no_job(config: Config, draft: Draft) -> None:
    """What a cluster is asked for means nothing to a run that starts on this machine."""
    asked = [name for name, value in vars(config.slurm).items() if value is not None]
    if asked:
        draft.mistake(
            f"slurm.{asked[0]} asks a cluster for a job, and this run starts here: leave slurm.* out (trainer.devices "
            "sets the ranks of this machine), or submit it (poise submit)."
        )


def check_one_job(config: Config, draft: Draft) -> None:
    """A limit on how many jobs run at a time means nothing to a job that is alone."""
    if config.slurm.parallel is not None:
        draft.mistake(
            f"slurm.parallel={config.slurm.parallel} limits the jobs of a sweep, and this is one job: leave it out, or "
            "submit a sweep (poise submit --sweep)."
        )


def check_threat(config: Config, draft: Draft) -> None:
    """An eps that the data's range does not allow is most likely in the wrong unit.

    Data sources whose range depends on what they read say `valid_range = None`.
    """
    eps, name = config.threat.eps, config.threat.name
    if eps is None or eps <= 1 or name != "linf" or not config.data.name:
        return
    valid_range = registry.find("data", config.data.name).attributes.get("valid_range", (0.0, 1.0))
    if valid_range == (0.0, 1.0):
        draft.mistake(
            f"threat.eps={eps:g} is larger than the whole range 0…1 of the data: eps is in input units. "
            f"Did you mean threat.eps={eps:g}/255?"
        )
