"""The typed config of a run: what there is to set, with its types and defaults.

Types and defaults of the parameters of recipes, models, data … stand in their constructors, not here.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from poise.data.blocks import default_block

RADII: dict[str, float] = {"linf": 8 / 255, "l2": 128 / 255, "l1": 12.0}

DEFAULT_NAMES: dict[str, Any] = {
    "recipe": [],
    "data": ["digits"],
    "model": "small_cnn",
    "optimizer": "sgd",
    "schedule": "cosine",
    "evaluation": ["clean", "adversarial"],
}
OBJECT = "object"  # before the class of what a Python user gave as an object: object:MyNet
# the words that name none of a list
NOTHING = {"recipe": "plain", "calibration": "none", "evaluation": "none", "augment": "none"}


AtLeastOne = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Entry:
    """A thing with a name and parameters.

    Args:
        name: as the registry knows it, or "package.module:Class".
        params: all parameters of its constructor by name, defaults included.
        brought_by: the member that brought this one; "" where the user named it.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    brought_by: str = field(default="", compare=False)


@dataclass(frozen=True)
class DataConfig(Entry):
    """A data source, its parameters, and the wrappers around it by alias, in order."""

    wrappers: dict[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig(Entry):
    """A model, its parameters, where its weights start, and which of them are trained.

    Args:
        checkpoint: file of weights to start from: safetensors, or a state dict of PyTorch's; None is fresh ones.
        new_head: whether the head is a fresh one and the file's, which may have other classes, left out.
        freeze: parts that are not trained and stay in evaluation mode, such as backbone or backbone.layer1; None is
            none.
        channels_last: whether pictures have their channels last in memory; None is where it is known to be faster.
    """

    checkpoint: str | None = None
    new_head: bool = False
    freeze: list[str] | None = None
    channels_last: bool | None = None


@dataclass(frozen=True)
class OptimizerConfig(Entry):
    """An optimiser, its parameters, and how the weights differ that it trains.

    Args:
        layer_decay: factor on the learning rate from one layer of the model to the one before it, the head's being 1.
        decay_norms_and_biases: whether weight decay shrinks tensors with one axis too.
    """

    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    decay_norms_and_biases: bool = True


@dataclass(frozen=True)
class ThreatConfig:
    """What an attacker may do. An `eps` of None is usual on CIFAR-10: 8/255 for linf, 128/255 for l2, 12 for l1.

    The radius of l1 is that of Croce, Hein: Mind the box: l1-APGD for sparse adversarial attacks on image classifiers,
    2021, arXiv 2103.01208, on CIFAR-10.
    """

    name: Literal["linf", "l2", "l1"] = "linf"
    eps: Annotated[float, Ge(0)] | None = None

    def __post_init__(self) -> None:
        if self.eps is None:
            object.__setattr__(self, "eps", RADII[self.name])


@dataclass(frozen=True)
class TrainerConfig:
    """How long, how precisely and on what a run trains.

    Args:
        max_epochs: passes over the training split.
        batch_size: examples of one optimiser step, over ranks and micro-batches.
        block: examples drawn and mixed together; None: the largest of 16, 8, 4, 2, 1 that divides the batch.
        precision: of the model's passes; inputs, attacks and losses are in float32 or better.
        compile: whether the model is compiled, at its first passes; takes a C++ compiler.
        devices: ranks on this node; of a job, on all its nodes.
        accelerator: auto takes a GPU where there is one.
        accumulate: micro-batches of one optimiser step.
        eval_batch_size: examples of one pass in evaluation, on each rank; changes no result.
        max_steps: optimiser steps after which the run ends, if that is earlier.
        gradient_clip: largest norm of the gradient.
        sync_batchnorm: whether batch norm's statistics are those of all ranks.
        checkpoint_every: optimiser steps between checkpoints, in addition to those after each epoch.
        timeout: seconds after which ranks give up on one that does not answer; at most a week.
        progress: whether to show a progress bar.
    """

    max_epochs: AtLeastOne = 20
    batch_size: AtLeastOne = 128
    block: AtLeastOne | None = None
    precision: Literal["32-true", "64-true", "bf16-mixed"] = "32-true"
    compile: bool = False
    devices: AtLeastOne = 1
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    accumulate: AtLeastOne = 1
    eval_batch_size: AtLeastOne = 256
    max_steps: AtLeastOne | None = None
    gradient_clip: Annotated[float, Gt(0)] | None = None
    sync_batchnorm: bool = False
    checkpoint_every: AtLeastOne | None = None
    timeout: Annotated[float, Ge(1), Le(604_800)] = 1800.0
    progress: bool = True

    @property
    def block_size(self) -> int:
        """Examples in a block."""
        return default_block(self.batch_size) if self.block is None else self.block


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run is tracked.

    Args:
        name: mlflow, or none.
        uri: of the tracking server or database; None is what MLFLOW_TRACKING_URI says, else an SQLite database,
            mlflow.db, in the working directory.
        experiment: under which the run stands.
        every: optimiser steps between two values of a training curve; each epoch's last step has one as well.
    """

    name: Literal["mlflow", "none"] = "mlflow"
    uri: str | None = None
    experiment: str = "poise"
    every: AtLeastOne = 10


@dataclass(frozen=True)
class SlurmConfig:
    """The job that a Slurm cluster is asked for; None is what the cluster gives by default.

    Args:
        nodes: machines.
        gpus: of each node, one rank on each.
        cpus: cores of each rank.
        time: limit, as Slurm writes it: minutes, 30:00, 8:00:00 or 1-12:00:00.
        notice: seconds before the limit at which the run writes a checkpoint and goes back into the queue; 0 for none;
            None is 120, and none where the limit is under ten minutes.
        parallel: jobs of a sweep that may run at a time.
        account: that is charged.
        partition: of the cluster.
        qos: quality of service.
        constraint: features that nodes must have, such as "a100&nvlink".
        extra: further options of sbatch, as in a shell.
        setup: lines of shell that the job runs first, such as "module load cuda".
        prefix: words of shell before each rank's command: options of srun, or a container's program.
        python: interpreter of the ranks; None is the one that submits.
    """

    nodes: AtLeastOne | None = None
    gpus: AtLeastOne | None = None
    cpus: AtLeastOne | None = None
    time: str | None = None
    notice: Annotated[int, Ge(0), Le(65535)] | None = None
    parallel: AtLeastOne | None = None
    account: str | None = None
    partition: str | None = None
    qos: str | None = None
    constraint: str | None = None
    extra: str | None = None
    setup: str | None = None
    prefix: str | None = None
    python: str | None = None

    @property
    def ranks(self) -> int | None:
        """Ranks of the whole job: one a GPU, else one a node; None where neither is counted."""
        counted = [count for count in (self.nodes, self.gpus) if count is not None]
        return math.prod(counted) if counted else None


Strategy = Literal[
    "auto",
    "ddp",
    "deepspeed_zero1",
    "deepspeed_zero2",
    "deepspeed_zero3",
    "deepspeed_zero1_offload",
    "deepspeed_zero2_offload",
    "deepspeed_zero3_offload",
]


@dataclass(frozen=True)
class Config:
    """A whole run.

    Args:
        recipe: members of the stack by alias, in order; empty is plain training.
        calibration: calibrators by alias, in order.
        data: source and wrappers.
        augment: what is done to training inputs by alias, in order.
        model: its parameters, the weights it starts from, and what of it is trained.
        optimizer: its parameters, and how weights differ.
        schedule: and its parameters.
        threat: of training and evaluation.
        evaluation: evaluators by alias, in order.
        trainer: sizes, precision, devices.
        tracking: where its numbers go.
        slurm: the job on a cluster.
        strategy: how ranks share the work; auto is one process, or ddp on several devices.
        deepspeed: JSON file of settings for DeepSpeed, over those of the strategy.
        selection: the validation metric whose best value chooses the epoch, of equal ones the lowest nll: accuracy,
            worst_class_accuracy, with groups worst_group_accuracy, and where the stack attacks the same of
            robust_accuracy; or nll, by its lowest; None is robust_accuracy where the stack attacks, else accuracy.
        tables: per-example tables of earlier runs by name: a file or a run.
        seed: of everything random.
        run_dir: where the run is kept; None is date, time and stack.
        resume: auto continues what is in `run_dir`.
    """

    recipe: dict[str, Entry]
    calibration: dict[str, Entry]
    data: DataConfig
    augment: dict[str, Entry]
    model: ModelConfig
    optimizer: OptimizerConfig
    schedule: Entry
    evaluation: dict[str, Entry]
    threat: ThreatConfig = field(default_factory=ThreatConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    slurm: SlurmConfig = field(default_factory=SlurmConfig)
    tables: dict[str, str] = field(default_factory=dict)
    strategy: Strategy = "auto"
    deepspeed: str | None = None
    selection: str | None = None
    seed: Annotated[int, Ge(0)] = 0
    run_dir: str | None = None
    resume: Literal["auto", "never"] = "auto"

    @property
    def ranks_on_a_node(self) -> int:
        """Processes that train on each node."""
        return self.trainer.devices // (self.slurm.nodes or 1)


ENTRIES: dict[str, type] = {"model": ModelConfig, "optimizer": OptimizerConfig}  # that say more than parameters
SINGLE = ("model", "optimizer", "schedule")
LISTS = ("recipe", "calibration", "data", "augment", "evaluation")
NAMED = (*SINGLE, *LISTS, "threat", "tracking")
GROUPS: dict[str, type] = {
    "threat": ThreatConfig,
    "trainer": TrainerConfig,
    "tracking": TrackingConfig,
    "slurm": SlurmConfig,
}
SCALARS = ("strategy", "deepspeed", "selection", "seed", "run_dir", "resume")
TOP = (*LISTS, *SINGLE, *GROUPS, "tables", *SCALARS)
