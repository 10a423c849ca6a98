"""What a plan advises: where memory is too small, and where time goes."""

from collections.abc import Mapping, Sequence

from poise.config.planning import Plan
from poise.planning.estimate import StepTime
from poise.planning.hardware import Gpu
from poise.planning.outlook import Outlook, chosen_of, machine_of
from poise.planning.rehearsal import Rehearsal
from poise.planning.tables import duration, share

MORE_ROWS = "fewer GPUs, or a larger trainer.batch_size, which is another run"
WORTH_IT = 1.2  # times less arithmetic, from which bfloat16 is advised


def to_fit(plan: Plan, outlooks: Sequence[Outlook]) -> str:
    """What would make the plan's strategy fit by this model, or another that does."""
    chosen = next(one for one in outlooks if one.strategy == chosen_of(plan))
    if chosen.fitting:
        return (
            f"It does not fit: trainer.accumulate={chosen.fitting} would, the same batches in {chosen.fitting} parts, "
            "if activations fall with the rows of a part."
        )
    ways = [f"strategy={one.strategy}" for one in outlooks if one.fits and not one.refused]
    ways += [
        f"strategy={one.strategy} trainer.accumulate={one.fitting}"
        for one in outlooks
        if one.fitting and not one.refused
    ]
    others = f"{' and '.join(ways)} would" if ways else "a smaller model, or a gpu= with more memory, may"
    return f"It does not fit, and no trainer.accumulate makes it: {others}."


def limits(plan: Plan, rehearsal: Rehearsal, step: StepTime) -> str:
    """What a step takes its time for, most of all, and the way out."""
    machine = machine_of(plan)
    seconds = {
        "arithmetic": step.spent.arithmetic,
        "memory": step.spent.memory,
        "launches": step.spent.launches,
        "network": step.waiting,
    }
    most = max(seconds, key=lambda name: seconds[name])
    ways = _ways(machine.gpus)
    told = ", ".join(
        f"{name} {share(value / step.total)}" for name, value in seconds.items() if value >= step.total / 200
    )
    sentence = f"The step of {duration(step.total)} is limited by {most} ({told}): {ways[most]}."
    now, then = (machine.peak(rehearsal.work, one) for one in (plan.config.trainer.precision, "bf16-mixed"))
    sooner = in_bfloat16(machine.gpu, now, then)
    return f"{sentence} {sooner}" if most in ("arithmetic", "memory") and sooner else sentence


def in_bfloat16(gpu: Gpu, now: float, then: float) -> str:
    """How much less the arithmetic would take; "" where that is no matter.

    Args:
        gpu: that does it.
        now: seconds of the arithmetic at the full rate.
        then: likewise in bfloat16.
    """
    if gpu.bfloat16 <= gpu.float32 or now < WORTH_IT * then:
        return ""
    return (
        f"With trainer.precision=bf16-mixed the arithmetic would take {now / then:.1f} times less, and activations "
        "down to half the bytes."
    )


def _ways(gpus: int) -> Mapping[str, str]:
    """What helps, by what limits."""
    fewer = MORE_ROWS if gpus > 1 else "a larger trainer.batch_size, which is another run"
    return {
        "arithmetic": "more GPUs pay, or faster ones",
        "memory": "its operations wait for what they read and write; GPUs with a higher bandwidth are faster",
        "launches": f"the host cannot start operations faster than GPUs finish them, and GPUs wait; {fewer}, uses "
        "them better",
        "network": f"GPUs wait for what they send; a faster network=, {fewer}, uses them better",
    }
