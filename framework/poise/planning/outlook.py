"""What a run would take under each strategy."""

from collections.abc import Sequence
from dataclasses import dataclass

from poise.config.planning import Plan
from poise.planning.estimate import HOUR, Machine, StepTime, on_one_gpu, step_time
from poise.planning.hardware import GPUS, NETWORKS
from poise.planning.memory import Memory, memory_of, with_fewer_rows
from poise.planning.network import own_collectives
from poise.planning.rehearsal import Rehearsal
from poise.planning.zero import Zero, zero_of
from poise.strategies import zero_stage

SHOWN = ("ddp", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3")
FULL = 0.9  # of a GPU's memory: what CUDA and the allocator take is not counted


@dataclass(frozen=True)
class Outlook:
    """A run under one strategy.

    Args:
        strategy: of STRATEGIES.
        refused: why the stack cannot train so; "" where it can.
        memory: of one GPU.
        sent: bytes that each rank sends at an optimiser step for the strategy's sake.
        by_recipes: likewise for that of the stack's members.
        step: the modelled time of one; None where the host takes part, which is not modelled.
        alone: of the same batch on one GPU.
        seconds: of the whole training with its validations, modelled likewise; 0 where the step is not.
        fits: whether the memory is enough.
        fitting: where it is not, the fewest micro-batches with which it would be; None for none.
    """

    strategy: str
    refused: str
    memory: Memory
    sent: float
    by_recipes: float
    step: StepTime | None
    alone: StepTime
    seconds: float
    fits: bool
    fitting: int | None

    def gpu_hours(self, gpus: int) -> float:
        """Hours of all GPUs together."""
        return gpus * self.seconds / HOUR


def machine_of(plan: Plan) -> Machine:
    """The machine that a plan names."""
    asked = plan.machines
    return Machine(GPUS[asked.gpu], NETWORKS[asked.network], plan.config.trainer.devices, plan.on_a_node, asked.of_peak)


def strategies_of(plan: Plan) -> Sequence[str]:
    """The strategies to compare, that of the plan among them."""
    config = plan.config
    if config.trainer.devices == 1 or config.trainer.precision == "64-true":
        alone = "auto" if config.trainer.devices == 1 else "ddp"
        return list(dict.fromkeys([alone, chosen_of(plan)]))
    return list(dict.fromkeys([*SHOWN, chosen_of(plan)]))


def chosen_of(plan: Plan) -> str:
    """The strategy of the plan: what auto means is said."""
    strategy = plan.config.strategy
    return "ddp" if strategy == "auto" and plan.config.trainer.devices > 1 else strategy


def outlook(plan: Plan, rehearsal: Rehearsal, strategy: str) -> Outlook:
    """What a run would take under a strategy, the rest as the plan says it."""
    trainer, machine = plan.config.trainer, machine_of(plan)
    sizes = rehearsal.sizes
    own_settings = plan.config.deepspeed if strategy == plan.config.strategy else None
    settings = zero_of(strategy, own_settings, sizes.trained)
    own = own_collectives(strategy, sizes.gradients, settings, trainer.accumulate, trainer.accelerator != "cpu")
    by_recipes = trainer.accumulate * list(rehearsal.collectives)
    time = step_time(machine, rehearsal.work, [*own, *by_recipes], trainer.precision, trainer.accumulate)
    validating = rehearsal.evaluated * machine.spent(rehearsal.validation, trainer.precision).total
    modelled = not strategy.endswith("_offload")
    memory = memory_of(strategy, sizes, rehearsal.peaks, trainer.devices, settings, trainer.accumulate)
    fits = memory.total <= machine.gpu.memory
    return Outlook(
        strategy,
        rehearsal.refused if zero_stage(strategy) == 3 else "",
        memory,
        sum(one.sent(trainer.devices) for one in own),
        sum(one.sent(trainer.devices) for one in by_recipes),
        time if modelled else None,
        on_one_gpu(machine, rehearsal.work, trainer.precision, trainer.accumulate),
        rehearsal.steps * time.total + validating if modelled else 0.0,
        fits,
        None if fits else _fitting(plan, rehearsal, strategy, settings),
    )


def _fitting(plan: Plan, rehearsal: Rehearsal, strategy: str, settings: Zero | None) -> int | None:
    """The fewest micro-batches of whole blocks that leave room."""
    trainer, sizes = plan.config.trainer, rehearsal.sizes
    blocks = trainer.batch_size // (trainer.devices * trainer.block_size)
    for parts in range(trainer.accumulate + 1, blocks + 1):
        if blocks % parts:
            continue
        peaks = with_fewer_rows(rehearsal.peaks, trainer.accumulate / parts, sizes.gradients)
        held = memory_of(strategy, sizes, peaks, trainer.devices, settings, parts)
        if held.total <= FULL * GPUS[plan.machines.gpu].memory:
            return parts
    return None
