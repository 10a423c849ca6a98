"""Where tensors have shapes and no values."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class Zeros(TorchDispatchMode):
    """Who asks a tensor without values for its number is given zero: the layer drawn, say, is the first."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except RuntimeError:
            if func is torch.ops.aten._local_scalar_dense.default:
                return 0.0 if args[0].is_floating_point() else 0
            raise


class Copies(TorchFunctionMode):
    """Copies tensors, with values or without, by operations.

    PyTorch's own copy takes a tensor's attributes along. Of one without values these lead to the mode that made it and
    its weak references to storages, each of which a copy gives back a second time: the heap is broken. Of one with
    values it writes to a storage that is not there.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = tensor.detach().clone().requires_grad_(tensor.requires_grad)
        return memo[id(tensor)]


@contextmanager
def nowhere(mode: FakeTensorMode) -> Iterator[None]:
    """Tensors that are made here have no values, and PyTorch keeps to itself what it cannot do with them.

    Args:
        mode: of tensors that meet: one for all.
    """
    log = logging.getLogger(FakeTensorMode.__module__)
    loud = log.disabled
    log.disabled = True  # what it would tell is raised as well
    try:
        with mode, Zeros(), Copies(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            yield
    finally:
        log.disabled = loud
