"""What `poise plan` is asked: a config, and the machines that it would run on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from poise import registry
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

ON_A_NODE = 8  # GPUs, where nothing says how many
DATA = ("shape", "classes", "examples")  # without which data are looked at


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
        classes: likewise.
        examples: to train on, likewise.
        groups: likewise; none without them.
    """

    gpus: AtLeastOne | None = None
    gpu: str = "h100"
    network: str = "ib_400"
    price: Annotated[float, Ge(0)] | None = None
    of_peak: Annotated[float, Gt(0), Le(1)] = 0.5
    shape: list[int] = field(default_factory=list)
    classes: Annotated[int, Ge(2)] | None = None
    examples: AtLeastOne | None = None
    groups: Annotated[int, Ge(0)] = 0

    @property
    def without_data(self) -> bool:
        """Whether the data need not be there."""
        return bool(self.shape)


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
        _check_precision,
        partial(_check_gpus, machines),
        partial(_check_data, machines),
    ]
    return Plan(composed(draft, [*file, replace(top, values=values)], checks), machines)


def _split(draft: Draft, top: Layer) -> tuple[Machines, dict[str, Any]]:
    """What only a plan has, and the rest."""
    asked = Draft()
    asked.add(replace(top, values={path: value for path, value in top.values.items() if path in OWN}))
    machines = Machines(**asked.fields(Machines))
    given = [path for path in DATA if path in top.values]
    wrong = [mistake("gpu", machines.gpu, GPUS), mistake("network", machines.network, NETWORKS)]
    if given and len(given) < len(DATA):
        missing = " and ".join(f"{path}=" for path in DATA if path not in given)
        wrong.append(f"{given[0]}= without {missing}: a plan without data needs {', '.join(DATA)}.")
    if any(side < 1 for side in machines.shape):
        wrong.append(f"shape={shown(top.values['shape'])}: each number has to be 1 or more, such as 3,224,224.")
    values = {path: value for path, value in top.values.items() if path not in OWN}
    for path in [path for path in values if path not in TOP and nearest(path, OWN)]:
        wrong.append(f"There is nothing called {shown(path)!r} to plan.{nearest(path, OWN)}")
        del values[path]
    for text in (*asked.mistakes, *filter(None, wrong)):
        draft.mistake(text)
    return machines, values


def _check_precision(config: Config, draft: Draft) -> None:
    """DeepSpeed itself need not be installed where nothing is trained."""
    try:
        check_precision(config.strategy, config.trainer.precision)
    except UserError as error:
        draft.mistake(str(error))


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
