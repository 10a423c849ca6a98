"""What DeepSpeed's settings mean for the tensors of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

from poise.strategies import is_zero
from poise.zero_settings import zero_settings

FLOAT = 4  # bytes of a value: ZeRO trains in float32 here
UNBOUNDED = 10**9  # DeepSpeed's own default of stage3_max_live_parameters
PREFETCHED = 5 * 10**7  # and of stage3_prefetch_bucket_size
PERSISTENT = 10**5  # and of stage3_param_persistence_threshold


@dataclass(frozen=True)
class Zero:
    """Sizes in bytes.

    Args:
        bucket: in which gradients are collected before they are reduced.
        buckets: of them at a time.
        small: tensors that stage 3 leaves whole.
        shared: those that it shares out.
        gathered: the most of them that is whole at a time.
    """

    bucket: float
    buckets: int
    small: float
    shared: float
    gathered: float

    @property
    def keeps_gathered(self) -> bool:
        """Whether all that was gathered for a forward pass is there in the backward pass."""
        return self.gathered >= self.shared


def zero_of(strategy: str, own: str | None, trained: Sequence[int]) -> Zero | None:
    """What a strategy of ZeRO makes of parameters; None for other strategies.

    Args:
        strategy: one of STRATEGIES.
        own: a JSON file of one's own settings, for this strategy.
        trained: bytes of each trained parameter.
    """
    if not is_zero(strategy):
        return None
    settings = zero_settings(strategy, own)["zero_optimization"]
    whole = sum(trained)
    small = sum(
        size for size in trained if size < FLOAT * settings.get("stage3_param_persistence_threshold", PERSISTENT)
    )
    live = settings.get("stage3_max_live_parameters", UNBOUNDED) + settings.get(
        "stage3_prefetch_bucket_size", PREFETCHED
    )
    return Zero(
        bucket=min(FLOAT * settings["reduce_bucket_size"], whole),
        buckets=2 if settings.get("overlap_comm") else 1,
        small=small,
        shared=whole - small,
        gathered=min(FLOAT * live, whole - small),
    )
