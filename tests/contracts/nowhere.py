"""Training on the meta device, whose tensors have no values: who reads one fails, as on a GPU they would wait.

What else waits for a GPU is a copy between it and the host, and an index or a number that lies on the other side; the
modes below hear those.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from contracts import kit
from poise.module import TrainingModule
from poise.step import Step, key

NOWHERE = torch.device("meta")
MAKERS = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor)
WAITING = ("aten.multinomial", "aten.repeat_interleave", "aten.bincount", "aten.histc")  # they look at values on a GPU

COPIES = ("aten._to_copy", "aten.copy_")


class Waits(AssertionError):
    """Something in a step that a GPU would be waited for."""


class Operations(TorchDispatchMode):
    """Fails where an operation has tensors on both sides; a single number of the host's is no wait, unless copied."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        found = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        copied = str(func).startswith(COPIES) and not (kwargs or {}).get("non_blocking")
        sides = {tensor.device for tensor in [*given, *made] if tensor.is_meta or tensor.ndim or copied}
        if len(sides) > 1 or (NOWHERE in sides and str(func).startswith(WAITING)):
            raise Waits(f"{func} of {', '.join(map(str, given))}")
        return found


class Makers(TorchFunctionMode):
    """Fails where numbers of Python's are copied to the device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in MAKERS and found.is_meta:
            numbers = args[-1]
            if not isinstance(numbers, Tensor):
                raise Waits(f"{func.__name__} of {numbers}")
        return found


class Nowhere(SingleDeviceStrategy):
    """Lightning's own loop around a model and batches without values."""

    def __init__(self) -> None:
        super().__init__(device=torch.device("cpu"))  # Lightning checks it

    def model_to_device(self) -> None:
        assert self.model is not None
        self.model.to(NOWHERE)

    def batch_to_device(self, batch: Any, device: Any = None, dataloader_idx: int = 0) -> Any:
        assert self.model is not None
        return self.model._apply_batch_transfer_handler(batch, NOWHERE, dataloader_idx)  # type: ignore[operator]


class Steps(Callback):
    """Enters contexts for what a step does, from its batch on the device to its end; ends the training after some."""

    def __init__(self, number: int, *contexts: Callable[[], AbstractContextManager[Any]]) -> None:
        self.number, self.contexts = number, contexts
        self.open = ExitStack()

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        for context in self.contexts:
            self.open.enter_context(context())

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.open.close()
        if trainer.global_step == self.number:
            raise Done

    def on_exception(self, *_: object) -> None:
        self.open.close()


class Done(Exception):
    """The steps are taken."""


def take_steps(
    made: TrainingModule, contexts: Sequence[Callable[[], AbstractContextManager[Any]]], **settings: Any
) -> None:
    """Train two steps under Lightning, inside contexts.

    The framework looks at values on purpose where a step is logged, every 16 steps for a loss that is not finite, at
    an epoch's end and for a checkpoint; none of these is among the steps.

    Raises:
        whatever the first wait was.
    """
    try:
        kit.fit(made, callbacks=[Steps(2, *contexts)], settings={"log_every_n_steps": 1000, **settings})
    except Exception as error:  # to take a trainer down fails as well where nothing can be copied to the host
        if not isinstance(first := _first(error), Done):
            raise first from None


def train_nowhere(made: TrainingModule) -> None:
    """Train two steps on the meta device, which has neither generators nor autocast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "_generator", _host_generator)
        patch.setattr(torch, "autocast", _autocast)
        take_steps(made, [Operations, Makers], strategy=Nowhere())


def _host_generator(step: Step, name: str, device: torch.device, *block: int) -> torch.Generator:
    return torch.Generator().manual_seed(key(step.seed, step.global_step, f"{step.member}/{name}", *block))


_AUTOCAST = torch.autocast


def _autocast(device_type: str, *arguments: Any, **named: Any) -> AbstractContextManager[Any]:
    return nullcontext() if device_type == NOWHERE.type else _AUTOCAST(device_type, *arguments, **named)


def _first(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error
