"""What is said where a device's memory is too small."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from poise.config.schema import TrainerConfig
from poise.data.blocks import check_sizes
from poise.errors import UserError

SIGNS = ("out of memory", "can't allocate memory", "ALLOC_FAILED")  # CUDA's, PyTorch's on CPU, cuBLAS's and cuDNN's
LONGEST = 120  # characters of what PyTorch says


class OutOfMemory(RuntimeError):
    """Memory that was too small, with what to set."""


@contextmanager
def memory_told(way_out: Callable[[], str]) -> Iterator[None]:
    """Say of memory that was too small what to do, in one line.

    Args:
        way_out: gives the end of the sentence "the device's memory is too small: …".

    Raises:
        OutOfMemory: in place of what PyTorch and CUDA raise.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _too_small(error):
            raise
        raise OutOfMemory(f"the device's memory is too small: {way_out()} ({_shortened(str(error))})") from error


def smaller_training(trainer: TrainerConfig) -> str:
    """What takes less memory in training: first what leaves the run as it is, then what changes it more and more."""
    parts = _finer(trainer)
    ways = [f"trainer.accumulate={parts} (the same batches in more parts)"] if parts else []
    if trainer.precision != "bf16-mixed":
        ways.append("trainer.precision=bf16-mixed")
    ways.append("a smaller trainer.batch_size")
    if trainer.eval_batch_size > 1:
        ways.append(f"where it was in validation, {smaller_evaluation(trainer)}")
    return f"set {'; or '.join(ways)}"


def smaller_evaluation(trainer: TrainerConfig) -> str:
    """What takes less memory in evaluation."""
    return f"trainer.eval_batch_size={max(1, trainer.eval_batch_size // 2)}"


def _finer(trainer: TrainerConfig) -> int | None:
    """The next number of micro-batches that the batch divides into."""
    for parts in range(trainer.accumulate + 1, trainer.batch_size + 1):
        try:
            check_sizes(trainer.batch_size, trainer.devices, parts, trainer.block_size)
        except UserError:
            continue
        return parts
    return None


def _too_small(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in SIGNS)


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
