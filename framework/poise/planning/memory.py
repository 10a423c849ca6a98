"""What a GPU has to hold under each strategy."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from poise.planning.stage import Peaks, Sizes
from poise.planning.zero import Zero
from poise.strategies import zero_stage


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank, at the moment of a step when they are most.

    Args:
        parts: by what they are of, in the order of COLUMNS; together they are all.
        moment: when.
        host: of the optimiser and parameters that are offloaded, in the host's memory.
    """

    parts: Mapping[str, float]
    moment: str
    host: float = 0.0

    @property
    def total(self) -> float:
        """Bytes of all parts."""
        return sum(self.parts.values())


COLUMNS = ("parameters", "gradients", "optimiser", "recipes", "buckets", "activations")


def memory_of(
    strategy: str, sizes: Sizes, peaks: Peaks, ranks: int, settings: Zero | None, accumulate: int = 1
) -> Memory:
    """What one rank holds.

    Args:
        strategy: one of STRATEGIES.
        sizes: of what is held where nothing is shared out.
        peaks: of what is held beside.
        ranks: that train together.
        settings: of ZeRO; None without it.
        accumulate: micro-batches of a step.
    """
    if settings is None:
        moments = _replicated(sizes, peaks, ranks)
    elif zero_stage(strategy) < 3:
        moments = _partitioned(sizes, peaks, ranks, settings, zero_stage(strategy), accumulate)
    else:
        moments = _sharded(sizes, peaks, ranks, settings)
    worst = max(moments, key=lambda memory: memory.total)
    return _offloaded(worst, sizes, ranks, zero_stage(strategy)) if strategy.endswith("_offload") else worst


def with_fewer_rows(peaks: Peaks, share: float, gradients: int) -> Peaks:
    """What is held beside in each of several micro-batches: activations fall with the rows, what updates hold does not.

    Args:
        peaks: of a micro-batch.
        share: of its rows that are left.
        gradients: bytes of them all, which are kept from one micro-batch to the next.
    """
    backward = share * peaks.backward
    return replace(
        peaks,
        kept=round(share * peaks.kept),
        forward=round(share * peaks.forward),
        backward=round(backward),
        backward_whole=round(backward) + gradients,
        update=peaks.update - peaks.kept + round(share * peaks.kept),
    )


def _at(moment: str, *values: float) -> Memory:
    return Memory(dict(zip(COLUMNS, values, strict=True)), moment)


def _replicated(sizes: Sizes, peaks: Peaks, ranks: int) -> Iterator[Memory]:
    """Every rank holds everything, and DDP all gradients a second time, in buckets."""
    whole, kept = sizes.gradients + sizes.frozen, sizes.recipes + sizes.buffers
    buckets = sizes.gradients if ranks > 1 else 0
    of_step = (whole, sizes.gradients, sizes.optimizer, kept, buckets)
    yield _at("forward", *of_step, peaks.forward)
    yield _at("backward", whole, 0, sizes.optimizer, kept, buckets, peaks.backward_whole)
    yield _at("update", *of_step, peaks.update)


def _partitioned(
    sizes: Sizes, peaks: Peaks, ranks: int, settings: Zero, stage: int, accumulate: int
) -> Iterator[Memory]:
    """Stages 1 and 2: whole parameters, a share of a float32 copy of them and of the optimiser's state.

    Buckets are there from a backward pass's beginning to its end. A full one is reduced in a further copy, when the
    activations of what came before it are gone: at the end, where all gradients fit into one.
    """
    share, kept = sizes.gradients / ranks, sizes.recipes + sizes.buffers
    whole, state = sizes.gradients + sizes.frozen, (sizes.gradients + sizes.optimizer) / ranks
    before = 0.0 if accumulate == 1 else sizes.gradients if stage == 1 else share
    buckets = settings.buckets * settings.bucket
    in_one = settings.bucket >= sizes.gradients
    yield _at("forward", whole, before, state, kept, 0, peaks.forward)
    yield _at("backward", whole, before, state, kept, buckets, peaks.backward)
    reduced = peaks.kept if in_one else peaks.backward
    yield _at("reduction", whole, before, state, kept, buckets + settings.bucket, reduced)
    yield _at("update", whole, share, state, kept, 0, peaks.update / ranks + peaks.kept)


def _sharded(sizes: Sizes, peaks: Peaks, ranks: int, settings: Zero) -> Iterator[Memory]:
    """Stage 3: a share of everything but small tensors, and what is gathered of parameters, twice while they come."""
    share, kept = sizes.gradients / ranks, sizes.recipes + sizes.buffers
    own, state = settings.small + share + sizes.frozen, (sizes.gradients + sizes.optimizer) / ranks
    gathered = settings.gathered
    yield _at("forward", own + 2 * gathered, share, state, kept, settings.bucket, peaks.forward)
    yield _at("backward", own + gathered, share, state, kept, settings.bucket, peaks.backward)
    yield _at("reduction", own, share, state, kept, 3 * settings.bucket, peaks.kept)
    yield _at("update", own, share, state, kept, settings.bucket, peaks.update / ranks + peaks.kept)


def _offloaded(memory: Memory, sizes: Sizes, ranks: int, stage: int) -> Memory:
    """What DeepSpeed moves to the host: the optimiser with its gradients, and in stage 3 the shares of parameters."""
    share = sizes.gradients / ranks
    moved = {"optimiser": memory.parts["optimiser"], "parameters": share if stage == 3 else 0.0}
    parts = {name: value - moved.get(name, 0.0) for name, value in memory.parts.items()}
    return Memory(parts, memory.moment, host=sum(moved.values()) + share)
