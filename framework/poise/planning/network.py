"""What a strategy sends at each optimiser step, beside what the stack's members send."""

from collections.abc import Sequence

from poise.planning.traffic import Collective
from poise.planning.zero import Zero
from poise.strategies import zero_stage


def own_collectives(
    strategy: str, gradients: float, settings: Zero | None, accumulate: int, on_gpus: bool
) -> Sequence[Collective]:
    """The collectives of a strategy in one optimiser step.

    DDP reduces gradients once a step, and so does stage 1 of ZeRO, stages 2 and 3 at each micro-batch. Of DeepSpeed's
    0.19 stages 1 and 2 reduce whole buckets on every rank, of which each keeps its part, and gather the weights that
    the others have updated. Stage 3 gathers what is shared out before a forward pass, keeps it for the backward pass
    where it fits into `stage3_max_live_parameters` (else it gathers it again), scatters gradients, and gathers the
    small tensors that it leaves whole after the update. Gloo scatters by reducing.

    Args:
        strategy: one of STRATEGIES.
        gradients: bytes of them all, or of the trained parameters.
        settings: of ZeRO; None without it.
        accumulate: micro-batches of a step.
        on_gpus: whether NCCL sends, else gloo.
    """
    if settings is None:
        return [Collective("all_reduce", gradients, hidden=True)]
    micro = accumulate if zero_stage(strategy) > 1 else 1
    if zero_stage(strategy) < 3:
        return [*micro * [Collective("all_reduce", gradients, hidden=True)], Collective("all_gather", gradients)]
    gathers = micro * (1 if settings.keeps_gathered else 2)
    scattered = Collective("reduce_scatter" if on_gpus else "all_reduce", gradients, hidden=True)
    gathered = Collective("all_gather", settings.shared, hidden=True)
    return [*gathers * [gathered], *micro * [scattered], Collective("all_gather", settings.small)]
