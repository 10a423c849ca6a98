"""A sweep on the command line: a path given several times is an axis, and each combination of values a run."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from poise.config.compose import CHECKS, Check, parse
from poise.config.errors import ConfigErrors
from poise.config.layers import shown, typed
from poise.config.schema import Config, TrackingConfig, TrainerConfig
from poise.secrets import redact

MOST = 1000  # runs: what an array of jobs holds on a cluster where nobody has set more
NO_AXES = ("resume", "trainer.progress", "trainer.timeout")  # nor is what tells how a run is tracked

Values = Mapping[str, str]  # of the axes by path, as they were given


@dataclass(frozen=True)
class Combination:
    """One run of a sweep.

    Args:
        values: of the axes.
        config: that they make with what all runs have.
    """

    values: Values
    config: Config


def parse_sweep(arguments: Sequence[str], checks: Sequence[Check] = CHECKS) -> list[Combination]:
    """The runs that `path=value` arguments describe, the last axis varying fastest.

    Args:
        arguments: as on the command line; a path given several times is an axis.
        checks: of each run, as of parse.

    Raises:
        ConfigErrors: all mistakes of all runs, one line each.
    """
    axes, common = axes_of(arguments)
    if mistakes := list(_mistakes_in(axes)):
        raise ConfigErrors(mistakes)
    chosen = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    return parse_runs([(values, [*common, *words(values)]) for values in chosen], checks)


def parse_one(arguments: Sequence[str], checks: Sequence[Check] = CHECKS) -> Config:
    """The one run that `path=value` arguments describe, where several could be meant.

    Args:
        arguments: as on the command line.
        checks: as of parse.

    Raises:
        ConfigErrors: all mistakes, one line each; that of a path given several times says how it would be an axis.
    """
    axes, common = axes_of(arguments)
    mistakes = [
        f"{path} is given {len(values)} times ({', '.join(map(shown, values))}): give one value, or submit a run for "
        "each with --sweep."
        for path, values in axes.items()
    ]
    try:
        config = parse([*common, *words({path: values[0] for path, values in axes.items()})], checks)
    except ConfigErrors as error:
        mistakes += error.mistakes
    if mistakes:
        raise ConfigErrors(mistakes)
    return config


def parse_runs(runs: Sequence[tuple[Values, Sequence[str]]], checks: Sequence[Check] = CHECKS) -> list[Combination]:
    """Runs for one array of jobs.

    Args:
        runs: of each its values of the axes, and all its arguments.
        checks: as of parse_sweep.

    Raises:
        ConfigErrors: all mistakes of all runs, one line each.
    """
    found: list[Combination] = []
    mistaken: dict[str, list[Values]] = {}
    for values, arguments in runs:
        try:
            found.append(Combination(values, parse(arguments, checks)))
        except ConfigErrors as error:
            for mistake in error.mistakes:
                mistaken.setdefault(mistake, []).append(values)
    mistakes = [_told(mistake, those, len(runs)) for mistake, those in mistaken.items()]
    mistakes += [*_differing([run.config for run in found]), *_repeated(found)]
    if mistakes:
        raise ConfigErrors(mistakes)
    return found


def axes_of(arguments: Iterable[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The axes' values by path, in the order in which they are first named; and the arguments that all runs have."""
    given: dict[str, list[str]] = {}
    for argument in arguments:
        given.setdefault(typed(argument.partition("=")[0]), []).append(argument)
    several = {path: some for path, some in given.items() if len(some) > 1 and all("=" in word for word in some)}
    axes = {path: [word.partition("=")[2] for word in some] for path, some in several.items()}
    return axes, [word for path, some in given.items() if path not in axes for word in some]


def words(values: Values) -> list[str]:
    """Values as the arguments that give them."""
    return [f"{path}={value}" for path, value in values.items()]


def _mistakes_in(axes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    size = math.prod(map(len, axes.values()))
    if not axes:
        yield "--sweep needs a path that is given several times, such as seed=0 seed=1 seed=2."
    for path, values in axes.items():
        yield from (
            f"{path}={shown(v)} is given twice: leave one out." for v in dict.fromkeys(values) if values.count(v) > 1
        )
    for path in axes:
        if path in NO_AXES or path.startswith("tracking."):
            yield f"{path} is given several times, and is no axis: no run would be another. Give one value."
    if size > MOST:
        counted = " × ".join(str(len(values)) for values in axes.values())
        told = f"{counted} are {size} runs" if len(axes) > 1 else f"These are {size} runs"
        yield f"{told}, and a sweep has at most {MOST}: submit it in parts."


def _told(mistake: str, those: Sequence[Values], size: int) -> str:
    """A mistake, and what the runs that make it have in common, where not all make it."""
    if len(those) == size:
        return mistake
    first, *others = those
    common = {path: value for path, value in first.items() if all(other[path] == value for other in others)}
    more = f" and {len(others)} more" if others and not common else ""
    label = redact(f"{' '.join(words(common or first))}{more}")
    return mistake if mistake.startswith(label) else f"{label}: {mistake}"


def _differing(configs: Sequence[Config]) -> Iterator[str]:
    """What one array of jobs has once, and these have several times."""
    for path in _of_array(configs[0]) if configs else ():
        values = dict.fromkeys(_of_array(config)[path] for config in configs)
        if len(values) > 1:
            told = " and ".join(f"{path}={shown(value)}" for value in list(values)[:2])
            yield f"{told}: the jobs of a sweep are alike, and tracked in one place. Give one value."


def _of_array(config: Config) -> dict[str, Any]:
    slurm = {f"slurm.{name}": value for name, value in vars(config.slurm).items()}
    tracking = {f"tracking.{name}": getattr(config.tracking, name) for name in ("uri", "experiment")}
    return {**slurm, "trainer.devices": config.trainer.devices, "tracking": config.tracking.name, **tracking}


def _repeated(found: Sequence[Combination]) -> Iterable[str]:
    """Values that make one and the same run as they are read."""
    first: dict[str, Values] = {}
    told: dict[str, None] = {}
    for run in found:
        before = first.setdefault(repr(_as_trained(run.config)), run.values)
        if before is not run.values:
            paths = [path for path in before if before[path] != run.values[path]]
            both = (" ".join(words({path: values[path] for path in paths})) for values in (before, run.values))
            told[f"{' and '.join(both)} make the same run: leave one out."] = None
    return told


def _as_trained(config: Config) -> Config:
    """A config without what makes no run another."""
    trainer = replace(config.trainer, progress=True, timeout=TrainerConfig.timeout)
    tracking = replace(config.tracking, every=TrackingConfig.every)
    return replace(config, resume="auto", trainer=trainer, tracking=tracking)
