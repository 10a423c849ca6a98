"""What `poise plan` is asked: a config, and the machines that it would run on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Annotated, Any

from annotated_types import Ge, Le

from poise import registry
from poise.config.checks import check_deepspeed
from poise.config.compose import Check, composed
from poise.config.draft import Draft
from poise.config.files import read_file
from poise.config.layers import Layer, from_arguments, from_file, shown
from poise.config.places import check_places
from poise.config.schema import TOP, AtLeastOne, Config, DataConfig
from poise.config.stacking import check_stack
from poise.errors import UserError, nearest
from poise.planning.hardware import GPUS, NETWORKS, mistake
from poise.strategies import check_precision
from poise.zero_settings import mistakes_in_settings

ON_A_NODE = 8  # GPUs, where nothing says how many
DATA = ("shape", "classes", "examples")  # without which data are looked at
VALUES = 10**8  # of one input: a volume of 464 voxels a side
TRAINER: Mapping[str, int] = {
    "max_epochs": 10**6,
    "devices": 10**5,
    "accumulate": 10**5,
    "eval_batch_size": 10**6,
}  # the most of each that a plan is made for, far beyond what is trained: no number of it has to be infinite


@dataclass(frozen=True)
class Machines:
    """What of a plan is not in a config.

    Args:
        gpus: in all, where slurm.nodes and slurm.gpus or trainer.devices do not say it.
        gpu: of GPUS.
        network: between nodes, of NETWORKS.
        price: of a GPU for an hour; None for none.
        of_peak: share of a GPU's floating-point rate that large operations are taken to reach.
        shape: of one input, where the data are not there.
        classes: likewise; ten million are counted in seconds.
        examples: to train on, likewise; labels lie in memory, 8 bytes each.
        groups: likewise; none without them.
    """

    gpus: AtLeastOne | None = None
    gpu: str = "h100"
    network: str = "ib_400"
    price: Annotated[float, Ge(0), Le(10**6)] | None = None
    of_peak: Annotated[float, Ge(0.01), Le(1)] = 0.5
    shape: list[int] | None = None
    classes: Annotated[int, Ge(2), Le(10**7)] | None = None
    examples: Annotated[int, Ge(1), Le(10**8)] | None = None
    groups: Annotated[int, Ge(0), Le(10**5)] = 0

    @property
    def without_data(self) -> bool:
        """Whether the data need not be there."""
        return self.shape is not None


OWN = tuple(item.name for item in fields(Machines))


@dataclass(frozen=True)
class Plan:
    """A plan that is asked for.

    Args:
        config: of the run.
        machines: that it would run on.
    """

    config: Config
    machines: Machines

    @property
    def on_a_node(self) -> int:
        """GPUs of each node."""
        slurm, all_of_them = self.config.slurm, self.config.trainer.devices
        return slurm.gpus or (all_of_them // slurm.nodes if slurm.nodes else min(all_of_them, ON_A_NODE))


def parse_plan(arguments: Sequence[str]) -> Plan:
    """The plan that `path=value` arguments describe: those of a config, and a plan's own.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    draft = Draft()
    top = from_arguments(arguments, draft.mistake)
    machines, values = _split(draft, top)
    path = values.pop("config", None)
    file = [] if path is None else [from_file(read_file(str(path), draft), str(path), draft.mistake)]
    if machines.gpus is not None:
        values.setdefault("trainer.devices", machines.gpus)
    checks: list[Check] = [
        check_stack,
        partial(_check_precision, machines),
        partial(_check_gpus, machines),
        _check_sizes,
        _check_settings,
        check_deepspeed,
        partial(_check_data, machines),
    ]
    return Plan(composed(draft, [*file, replace(top, values=values)], checks), machines)


def _split(draft: Draft, top: Layer) -> tuple[Machines, dict[str, Any]]:
    """What only a plan has, and the rest."""
    asked = Draft()
    asked.add(replace(top, values={path: value for path, value in top.values.items() if path in OWN}))
    machines = Machines(**asked.fields(Machines))
    wrong = [mistake("gpu", machines.gpu, GPUS), mistake("network", machines.network, NETWORKS)]
    wrong += [_incomplete(top.values), _mistake_in_shape(machines.shape)]
    values = {path: value for path, value in top.values.items() if path not in OWN}
    for path in [path for path in values if path not in TOP and nearest(path, OWN)]:
        wrong.append(f"There is nothing called {shown(path)!r} to plan.{nearest(path, OWN)}")
        del values[path]
    for text in (*asked.mistakes, *filter(None, wrong)):
        draft.mistake(text)
    return machines, values


def _incomplete(values: Mapping[str, Any]) -> str:
    """What is missing to a description of data; "" where nothing is, or nothing is described."""
    given = [path for path in (*DATA, "groups") if path in values]
    missing = [f"{path}=" for path in DATA if path not in given]
    if not given or not missing:
        return ""
    return f"{given[0]}= without {' and '.join(missing)}: a plan without data needs {', '.join(DATA)}."


def _mistake_in_shape(shape: Sequence[int] | None) -> str:
    """What is wrong with the shape of an input; "" where nothing is."""
    if shape is None:
        return ""
    told = f"shape={','.join(map(str, shape))}"
    if not shape or min(shape) < 1:
        return f"{told}: each number has to be 1 or more, such as 3,224,224."
    if math.prod(shape) > VALUES:
        return f"{told}: an input of more than {VALUES:,} values is not planned."
    return ""


def _check_precision(machines: Machines, config: Config, draft: Draft) -> None:
    """DeepSpeed itself need not be installed where nothing is trained; what a GPU emulates has no rate to plan with."""
    try:
        check_precision(config.strategy, config.trainer.precision)
    except UserError as error:
        draft.mistake(str(error))
    gpu = GPUS.get(machines.gpu)
    if config.trainer.precision == "bf16-mixed" and gpu is not None and not gpu.has_bfloat16:
        draft.mistake(
            f"trainer.precision=bf16-mixed gpu={machines.gpu}: it has no units for bfloat16, and its data sheet no "
            "rate: plan with trainer.precision=32-true, or another gpu."
        )


def _check_settings(config: Config, draft: Draft) -> None:
    """DeepSpeed's settings are read for their sizes."""
    for text in mistakes_in_settings(config.strategy, config.deepspeed):
        draft.mistake(text)


def _check_sizes(config: Config, draft: Draft) -> None:
    """Numbers with which a rehearsal would never end."""
    for name, most in TRAINER.items():
        value = getattr(config.trainer, name)
        if value > most:
            draft.mistake(f"trainer.{name}={value}: no more than {most:,} are planned.")


def _check_gpus(machines: Machines, config: Config, draft: Draft) -> None:
    if machines.gpus not in (None, config.trainer.devices):
        draft.mistake(f"gpus={machines.gpus} and trainer.devices={config.trainer.devices} differ: give one of them.")


def _check_data(machines: Machines, config: Config, draft: Draft) -> None:
    """Data that are looked at have to be there."""
    if machines.without_data or not config.data.name or is_published(config.data):
        return
    before = len(draft.mistakes)
    check_places(replace(config, run_dir=None, model=replace(config.model, checkpoint=None)), draft)
    if len(draft.mistakes) > before:
        draft.mistake("A plan needs no data where it is told of them: shape=3,224,224 classes=1000 examples=1281167.")


def is_published(data: DataConfig) -> bool:
    """Whether the sizes of data are known before anything is read."""
    return registry.find("data", data.name).attributes.get("published") is not None
