"""A plan as text."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from poise.config.planning import Plan
from poise.planning.advice import limits, to_fit
from poise.planning.estimate import HIDDEN, LAUNCH, OF_BANDWIDTH, Machine
from poise.planning.hardware import GB, Gpu
from poise.planning.memory import COLUMNS, Memory
from poise.planning.outlook import Outlook, chosen_of, machine_of
from poise.planning.rehearsal import Rehearsal
from poise.planning.tables import amount, duration, number, prose, share, table, width
from poise.strategies import is_zero

BAR = 24  # characters at most
SHORTEST = 8  # from which there is a bar
Bar = Sequence[tuple[str, float]]  # signs, and the share of the whole that each takes
LETTERS = [name[0] for name in COLUMNS]


def told(plan: Plan, rehearsal: Rehearsal, outlooks: Sequence[Outlook]) -> str:
    """What a run would take: its step, the memory and the time under each strategy, and what they are taken from.

    Args:
        plan: what was asked.
        rehearsal: of its step.
        outlooks: one a strategy, that of the plan among them.
    """
    chosen = next(one for one in outlooks if one.strategy == chosen_of(plan))
    parts = (
        _step(plan, rehearsal, chosen),
        _memory(plan, outlooks),
        _time(plan, rehearsal, outlooks),
        _run(plan, outlooks),
        _assumptions(plan, outlooks),
    )
    return "\n\n".join(filter(None, ("\n".join(part) for part in parts)))


def _step(plan: Plan, rehearsal: Rehearsal, chosen: Outlook) -> Iterator[str]:
    trainer, passes = plan.config.trainer, rehearsal.passes
    micro = f" in each of {trainer.accumulate} micro-batches" if trainer.accumulate > 1 else ""
    flops = trainer.accumulate * sum(one.flops for one in rehearsal.work)
    yield f"A step of {trainer.batch_size} examples, {rehearsal.rows} a GPU{micro}"
    yield f"  passes      {passes.forwards} forward, {_backwards(passes.input_backwards, passes.full_backwards)}"
    yield f"  arithmetic  {amount(flops)}FLOP a GPU, in {trainer.accumulate * len(rehearsal.work):,} operations"
    if trainer.devices > 1:
        by_recipes = f", {amount(chosen.by_recipes)}B of them for recipes" if chosen.by_recipes else ""
        yield f"  network     {amount(chosen.sent + chosen.by_recipes)}B that each GPU sends{by_recipes}"
    yield f"  the run     {rehearsal.steps:,} steps in {trainer.max_epochs} epochs, a validation after each"


def _backwards(inputs: int, full: int) -> str:
    return f"{f'{inputs} backward to the inputs, ' if inputs else ''}{full} backward to the weights"


def _memory(plan: Plan, outlooks: Sequence[Outlook]) -> Iterator[str]:
    limit = machine_of(plan).gpu.memory
    most = max(one.memory.total for one in outlooks)
    unit, scale = ("GB", GB) if most >= 0.1 * GB else ("MB", GB / 1000)
    rows = []
    for one in outlooks:
        values = (*one.memory.parts.values(), one.memory.total)
        note = "refused" if one.refused else "" if one.fits else "too much"
        rows.append([_marked(plan, one), *(number(value / scale) for value in values), note])
    yield f"Memory of each GPU when it is fullest, in {unit}; there are {limit / scale:,.0f}"
    lines = table(["strategy", *COLUMNS, "total", ""], rows)
    legend = ", ".join(f"{letter} {name}" for letter, name in zip(LETTERS, COLUMNS, strict=True))
    if max(map(len, lines)) > width():
        lines = table(["strategy", *LETTERS, "total", ""], rows)
    bars = [_composed(one.memory, limit) for one in outlooks]
    yield from _with_bars(lines, bars, "A bar is the memory of a GPU, · what is free of it.")
    yield from prose(f"{legend}.")
    for one in outlooks:
        if one.memory.host:
            yield from prose(
                f"{one.strategy} holds {number(one.memory.host / scale)} {unit} a GPU in the host's memory."
            )
        if one.refused:
            yield from prose(f"{one.strategy} is refused: {one.refused}.")
    if not next(one for one in outlooks if one.strategy == chosen_of(plan)).fits:
        yield from prose(to_fit(plan, outlooks))


def _composed(memory: Memory, limit: float) -> Bar:
    """Each part's letter with its share of what there is, the last with what is left."""
    parts = [(name[0], value / limit) for name, value in memory.parts.items()]
    return [*parts, ("·", max(0.0, 1 - memory.total / limit))]


def _with_bars(lines: Sequence[str], bars: Sequence[Bar], legend: str) -> Iterator[str]:
    """Lines, of which the first is headings, with bars to the right where there is room, each cut at the whole."""
    widest = max(map(len, lines))
    length = min(BAR, width() - widest - 2)
    if length < SHORTEST:
        yield from lines
        return
    for line, bar in zip(lines, [[], *bars], strict=True):
        ends = [round(length * min(1.0, end)) for end in accumulate(value for _, value in bar)]
        signs = "".join(sign * (end - begin) for (sign, _), begin, end in zip(bar, [0, *ends], ends, strict=False))
        yield f"{line.ljust(widest)}  {signs}".rstrip()
    yield from prose(legend)


def _time(plan: Plan, rehearsal: Rehearsal, outlooks: Sequence[Outlook]) -> Iterator[str]:
    machine = machine_of(plan)
    trainable = [one for one in outlooks if not one.refused]
    longest = max((one.step.total for one in trainable if one.step), default=0.0)
    rows, bars = [], list[Bar]()
    for one in trainable:
        note = "" if one.fits else "does not fit"
        sends = f"{amount(one.sent + one.by_recipes)}B" if machine.gpus > 1 else ""
        if one.step is None:
            rows.append([_marked(plan, one), "", "", sends, "", "not modelled"])
            bars.append([])
            continue
        step = one.step
        waiting = duration(step.waiting) if machine.gpus > 1 else ""
        rows.append([_marked(plan, one), duration(step.total), waiting, sends, share(step.of_peak), note])
        bars.append([("█", step.spent.total / longest), ("░", step.waiting / longest)])
    several = machine.gpus > 1
    yield f"Time of a step on {machine.gpus} × {machine.gpu.told}: modelled, not measured"
    headings = ["strategy", "step", "waiting" if several else "", "each sends" if several else "", "of peak", ""]
    lines = table(headings, rows)
    yield from _with_bars(lines, bars, "█ computes, ░ waits for the network.") if several else lines
    chosen = next(one for one in outlooks if one.strategy == chosen_of(plan))
    if chosen.step is None:
        yield from prose(f"What {chosen.strategy} moves to the host and back, and computes there, is not modelled.")
    elif not chosen.refused:
        yield from prose(limits(plan, rehearsal, chosen.step))


def _run(plan: Plan, outlooks: Sequence[Outlook]) -> Iterator[str]:
    """Of the strategies that can train, and that are modelled."""
    machine, price = machine_of(plan), plan.machines.price
    rows = []
    for one in outlooks:
        if one.refused or one.step is None or not one.fits:
            continue
        hours, faster = one.gpu_hours(machine.gpus), one.alone.total / one.step.total
        pays = [f"{faster:.1f} ×", share(faster / machine.gpus)] if machine.gpus > 1 else ["", ""]
        cost = "" if price is None else f"{price * hours:,.2f}"
        rows.append([_marked(plan, one), duration(one.seconds), number(hours), cost, *pays])
    if not rows:
        return
    pays = ["as fast", "efficiency"] if machine.gpus > 1 else ["", ""]
    yield "The run, modelled likewise"
    yield from table(["strategy", "the run", "GPU hours", "" if price is None else "cost", *pays], rows)
    if machine.gpus > 1:
        alone, (name, *_, efficiency) = duration(outlooks[0].alone.total), _first_marked(rows)
        yield from prose(
            f"As fast as one GPU, which would take {alone} for a step of the same batch, memory left aside, and less "
            f"where weights are most that it reads. Efficiency is the share of {machine.gpus} times as fast: one GPU "
            f"would take {efficiency} of the GPU hours of {name.split()[-1]}."
        )


def _first_marked(rows: Sequence[Sequence[str]]) -> Sequence[str]:
    """The row of the plan's strategy, or the first where it has none."""
    return next((row for row in rows if row[0].startswith(">")), rows[0])


def _assumptions(plan: Plan, outlooks: Sequence[Outlook]) -> Iterator[str]:
    machine = machine_of(plan)
    sentences = [
        _rates(machine.gpu, plan.config.trainer.precision),
        f"{share(machine.of_peak)} of the arithmetic's rate (of_peak=) and {share(OF_BANDWIDTH)} of the memory's are "
        f"reached; an operation takes {LAUNCH * 1e6:.0f} µs at least.",
        _joined(machine),
        *(_of_zero() if any(is_zero(one.strategy) for one in outlooks) and machine.gpus > 1 else ()),
        "Not in memory: CUDA itself (0.5 to 1 GB), workspaces of cuDNN, what the allocator loses, evaluation.",
        "Not in time: reading data, checkpoints, the evaluation at the end, compiling, waiting in a queue.",
    ]
    yield "Taken for granted"
    for sentence in sentences:
        yield from prose(sentence)


def _rates(gpu: Gpu, precision: str) -> str:
    rest = f"of which `of peak` is the share; memory {amount(gpu.bandwidth)}B/s."
    if precision != "32-true":
        name, rate = ("bfloat16", gpu.bfloat16) if precision == "bf16-mixed" else ("float64", gpu.float64)
        return f"By the data sheet {name} {amount(rate)}FLOP/s, {rest}"
    if gpu.tf32 == gpu.float32:
        return f"By the data sheet float32 {amount(gpu.float32)}FLOP/s, {rest}"
    return (
        f"By the data sheet convolutions in TF32 {amount(gpu.tf32)}FLOP/s, matrix products in float32 "
        f"{amount(gpu.float32)}FLOP/s, as PyTorch does by default, {rest}"
    )


def _joined(machine: Machine) -> str:
    if machine.gpus == 1:
        return "One GPU sends nothing: network= plays no part."
    ring = f"a ring through all GPUs carries {amount(machine.bandwidth)}B/s"
    hides = f"{share(HIDDEN)} of what is sent for gradients hides behind the passes that make them."
    nodes = -(-machine.gpus // machine.on_a_node)
    if nodes == 1:
        return f"One node, on which network= plays no part: {ring}. {hides}"
    return f"{nodes} nodes of {machine.on_a_node} GPUs, {machine.network.told} each: {ring}. {hides}"


def _of_zero() -> Iterator[str]:
    yield (
        "Stages 1 and 2 of DeepSpeed 0.19 reduce whole gradients on every rank, as DDP does, and then gather weights, "
        "which nothing hides: so they wait alike, and longer. Stage 3 scatters gradients and gathers weights while it "
        "computes: once a micro-batch, and again where they do not fit into stage3_max_live_parameters."
    )


def _marked(plan: Plan, one: Outlook) -> str:
    """The strategy, with a mark where it is the plan's; without one there is one process."""
    name = "one process" if one.strategy == "auto" else one.strategy
    return f"{'>' if one.strategy == chosen_of(plan) else ' '} {name}"
