"""What an attack costs, counted where it is spent: at the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Work:
    """Passes, each of one example.

    Args:
        forwards: forward passes.
        backwards: gradients with respect to the input.
        seconds: of the clock.
    """

    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.forwards + other.forwards, self.backwards + other.backwards, self.seconds + other.seconds)


@contextmanager
def counted(model: nn.Module) -> Iterator[Work]:
    """The passes of a model meanwhile; time is not taken."""
    work = Work()

    def forward(module: nn.Module, inputs: object, logits: Tensor) -> None:
        work.forwards += len(logits)
        if logits.requires_grad:
            logits.register_hook(backward)

    def backward(gradient: Tensor) -> None:
        work.backwards += len(gradient)

    handle = model.register_forward_hook(forward)
    try:
        yield work
    finally:
        handle.remove()
