"""A plan as text."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from poise.config.planning import Plan
from poise.memory import smaller_training
from poise.planning.estimate import HIDDEN, LAUNCH, OF_BANDWIDTH
from poise.planning.hardware import GB
from poise.planning.memory import COLUMNS, Memory
from poise.planning.outlook import Outlook, chosen_of, machine_of
from poise.planning.rehearsal import Rehearsal

BAR = 24  # characters of the longest
UNITS = ("", "k", "M", "G", "T", "P", "E")
RATES = {"32-true": "TF32", "bf16-mixed": "bfloat16", "64-true": "float64"}


def told(plan: Plan, rehearsal: Rehearsal, outlooks: Sequence[Outlook]) -> str:
    """What a run would take: its step, the memory and the time under each strategy, and what they are taken from.

    Args:
        plan: what was asked.
        rehearsal: of its step.
        outlooks: one a strategy, that of the plan among them.
    """
    chosen = next(one for one in outlooks if one.strategy == chosen_of(plan))
    parts = (_step(plan, rehearsal, chosen), _memory(plan, outlooks), _time(plan, outlooks), _assumptions(plan))
    return "\n\n".join("\n".join(part) for part in parts)


def _step(plan: Plan, rehearsal: Rehearsal, chosen: Outlook) -> Iterator[str]:
    trainer, passes = plan.config.trainer, rehearsal.passes
    micro = f" in each of {trainer.accumulate} micro-batches" if trainer.accumulate > 1 else ""
    flops = trainer.accumulate * sum(one.flops for one in rehearsal.work)
    yield f"A step of {trainer.batch_size} examples, {rehearsal.rows} a GPU{micro}"
    yield f"  passes      {passes.forwards} forward, {_backwards(passes.input_backwards, passes.full_backwards)}"
    yield f"  arithmetic  {_amount(flops)}FLOP a GPU, in {len(rehearsal.work):,} operations"
    if trainer.devices > 1:
        by_recipes = f", {_amount(chosen.by_recipes)}B of them for recipes" if chosen.by_recipes else ""
        yield f"  network     {_amount(chosen.sent + chosen.by_recipes)}B that each GPU sends{by_recipes}"
    yield f"  the run     {rehearsal.steps:,} steps in {trainer.max_epochs} epochs, a validation after each"


def _backwards(inputs: int, full: int) -> str:
    return f"{f'{inputs} backward to the inputs, ' if inputs else ''}{full} backward to the weights"


def _memory(plan: Plan, outlooks: Sequence[Outlook]) -> Iterator[str]:
    limit = machine_of(plan).gpu.memory
    most = max(one.memory.total for one in outlooks)
    unit, scale = ("GB", GB) if most >= 0.1 * GB else ("MB", GB / 1000)
    host = any(one.memory.host for one in outlooks)
    rows = []
    for one in outlooks:
        values = [*one.memory.parts.values(), one.memory.total, *([one.memory.host] if host else [])]
        excess = "" if one.memory.total <= limit else " does not fit"
        bar = "refused" if one.refused else f"{_composed(one.memory, most)}{excess}"
        rows.append([_marked(plan, one), *(_number(value / scale) for value in values), bar])
    yield f"Memory of each GPU when it is fullest, in {unit}; there are {_number(limit / scale)}"
    yield from _table(["strategy", *COLUMNS, "total", *(["host"] if host else []), ""], rows)
    yield from (f"  {one.strategy} is refused: {one.refused}." for one in outlooks if one.refused)
    chosen = next(one for one in outlooks if one.strategy == chosen_of(plan))
    if chosen.memory.total > limit:
        yield f"  It does not fit: {smaller_training(plan.config.trainer)}."


def _composed(memory: Memory, most: float) -> str:
    """A bar of the parts' initials, each as long as the part is large."""
    ends = [round(BAR * end / most) for end in accumulate(memory.parts.values())]
    return "".join(name[0] * (end - begin) for name, begin, end in zip(COLUMNS, [0, *ends], ends, strict=False))


def _time(plan: Plan, outlooks: Sequence[Outlook]) -> Iterator[str]:
    machine, price = machine_of(plan), plan.machines.price
    trainable = [one for one in outlooks if not one.refused]
    longest = max(one.step.total for one in trainable)
    rows = []
    for one in trainable:
        step, hours = one.step, one.gpu_hours(machine.gpus)
        cells = [_duration(step.total), _duration(step.waiting), _share(step.scaling), _share(step.of_peak)]
        cells += [_duration(one.seconds), _number(hours), *([] if price is None else [f"{price * hours:,.2f}"])]
        bar = "█" * round(BAR * step.compute / longest) + "░" * round(BAR * step.waiting / longest)
        rows.append([_marked(plan, one), *cells, bar])
    yield f"Time on {machine.gpus} × {machine.gpu.told}: modelled, not measured (█ computes, ░ waits for the network)"
    headings = ["strategy", "step", "waiting", "scaling", "of peak", "the run", "GPU hours"]
    yield from _table([*headings, *([] if price is None else ["cost"]), ""], rows)


def _assumptions(plan: Plan) -> Iterator[str]:
    machine, precision = machine_of(plan), plan.config.trainer.precision
    gpu, told = machine.gpu, RATES[precision]
    rates = {"32-true": gpu.tf32, "bf16-mixed": gpu.bfloat16, "64-true": gpu.float64}
    also = f" (matrix products {_amount(gpu.float32)}FLOP/s in float32)" if precision == "32-true" else ""
    yield "Taken for granted"
    yield f"  By the data sheet {told} {_amount(rates[precision])}FLOP/s{also}, memory {_amount(gpu.bandwidth)}B/s."
    yield (
        f"  {_share(machine.of_peak)} of the one (of_peak=) and {_share(OF_BANDWIDTH)} of the other are reached; an "
        f"operation takes {LAUNCH * 1e6:.0f} µs at least."
    )
    if machine.gpus > 1:
        nodes = -(-machine.gpus // machine.on_a_node)
        joined = f"{nodes} nodes of {machine.on_a_node} GPUs, {machine.network.told} each" if nodes > 1 else "One node"
        yield f"  {joined}: a ring through all GPUs carries {_amount(machine.bandwidth)}B/s."
        yield f"  {_share(HIDDEN)} of what is sent for gradients hides behind the passes that make them."
    yield "  Not in memory: CUDA itself (0.5 to 1 GB), workspaces of cuDNN, what the allocator loses, evaluation."
    yield "  Not in time: reading data, checkpoints, the evaluation at the end, compiling, waiting in a queue."


def _marked(plan: Plan, one: Outlook) -> str:
    """The strategy, with a mark where it is the plan's."""
    return f"{'>' if one.strategy == chosen_of(plan) else ' '} {one.strategy}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns, the first and the last to the left, numbers to the right."""
    last = len(headings) - 1
    widths = [max(len(row[place]) for row in (headings, *rows)) for place in range(last)]
    for row in (headings, *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:last], widths[1:], strict=True)),
        ]
        yield "  ".join([*cells, row[last]]).rstrip()


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _number(value: float) -> str:
    """Three digits that count, and none after the point from a hundred on."""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.{2 if value < 10 else 1}f}"


def _amount(value: float) -> str:
    """Such as `1.23 G`, for a unit to follow."""
    place = 0
    while value >= 999.5 and place < len(UNITS) - 1:
        value, place = value / 1000, place + 1
    return f"{value:.3g} {UNITS[place]}"


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= 2 * length or (unit == "ms" and seconds):
            return f"{seconds / length:.3g} {unit}"
    return "0" if not seconds else f"{seconds:.3g} s"
