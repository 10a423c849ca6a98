"""A modelled time of a step and a run, from what is rehearsed and from a GPU's and a network's data sheets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from poise.planning.hardware import Gpu, Network
from poise.planning.meters import Work
from poise.planning.traffic import Collective

LAUNCH = 8e-6  # seconds that the host takes to start an operation: 7 to 10 were measured beside an H100
OF_PEAK = 0.5  # of a GPU's floating-point rate that large operations reach
OF_BANDWIDTH = 0.8  # of the bandwidth of memory, links and networks
HIDDEN = 0.5  # of the time of collectives that travel while gradients are computed
HOUR = 3600.0


@dataclass(frozen=True)
class Spent:
    """Seconds of operations one after the other, by what each of them takes longest for.

    Args:
        arithmetic: of those that the arithmetic bounds.
        memory: of those that reading and writing bounds.
        launches: of those that are over before the host has started the next.
    """

    arithmetic: float = 0.0
    memory: float = 0.0
    launches: float = 0.0

    @property
    def total(self) -> float:
        """Of them all."""
        return self.arithmetic + self.memory + self.launches

    def times(self, count: int) -> "Spent":
        """The same so many times over."""
        return Spent(count * self.arithmetic, count * self.memory, count * self.launches)


@dataclass(frozen=True)
class Machine:
    """What a run is on.

    Args:
        gpu: each of them.
        network: between nodes.
        gpus: in all.
        on_a_node: of them.
        of_peak: share of a GPU's floating-point rate that large operations reach.
    """

    gpu: Gpu
    network: Network
    gpus: int
    on_a_node: int
    of_peak: float = OF_PEAK

    @property
    def bandwidth(self) -> float:
        """Bytes a second that a ring through all GPUs carries: of its slowest link."""
        link = self.gpu.link
        return OF_BANDWIDTH * (min(link, self.network.bandwidth) if self.gpus > self.on_a_node else link)

    def spent(self, work: Iterable[Work], precision: str) -> Spent:
        """What operations take one after the other, each as long as its arithmetic, its memory, or its start."""
        arithmetic = memory = launches = 0.0
        for one in work:
            computing = one.flops / (self.of_peak * self._rate(one, precision))
            moving = one.moved / (OF_BANDWIDTH * self.gpu.bandwidth)
            if max(computing, moving) <= LAUNCH:
                launches += LAUNCH
            elif computing >= moving:
                arithmetic += computing
            else:
                memory += moving
        return Spent(arithmetic, memory, launches)

    def peak(self, work: Iterable[Work], precision: str) -> float:
        """Seconds that the arithmetic alone would take at the full rate."""
        return sum(one.flops / self._rate(one, precision) for one in work)

    def _rate(self, work: Work, precision: str) -> float:
        """PyTorch convolves float32 in TF32 unless told otherwise, and multiplies matrices in float32."""
        gpu = self.gpu
        if precision == "32-true":
            return gpu.tf32 if work.convolves else gpu.float32
        return gpu.bfloat16 if precision == "bf16-mixed" else gpu.float64


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimiser step.

    Args:
        spent: on operations on the GPU.
        network: of collectives, whether hidden or not.
        waiting: of collectives that nothing hides.
        at_peak: that the arithmetic alone would take at the GPU's full rate.
    """

    spent: Spent
    network: float
    waiting: float
    at_peak: float

    @property
    def total(self) -> float:
        """From one step to the next."""
        return self.spent.total + self.waiting

    @property
    def of_peak(self) -> float:
        """Share of the GPU's full rate."""
        return self.at_peak / self.total if self.total else 0.0


def step_time(
    machine: Machine, work: Sequence[Work], collectives: Iterable[Collective], precision: str, accumulate: int
) -> StepTime:
    """The time of a step.

    Args:
        machine: what it is on.
        work: of one micro-batch.
        collectives: of the whole step.
        precision: one of PRECISIONS.
        accumulate: micro-batches of the step.
    """
    network = waiting = 0.0
    for one in collectives:
        seconds = one.sent(machine.gpus) / machine.bandwidth
        network += seconds
        waiting += seconds * (1 - HIDDEN if one.hidden else 1)
    return StepTime(
        machine.spent(work, precision).times(accumulate),
        network,
        waiting,
        accumulate * machine.peak(work, precision),
    )


def on_one_gpu(machine: Machine, work: Iterable[Work], precision: str, accumulate: int) -> StepTime:
    """The time of a step of the same batch on one GPU, which does the work of all in operations as many times as large.

    Args:
        machine: of several GPUs.
        work: of one micro-batch on one of them.
        precision: one of PRECISIONS.
        accumulate: micro-batches of the step.
    """
    times = machine.gpus
    whole = [
        one if one.updates else replace(one, flops=times * one.flops, moved=times * one.moved)  # weights are no more
        for one in work
    ]
    return step_time(replace(machine, gpus=1), whole, [], precision, accumulate)
