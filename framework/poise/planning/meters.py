"""What a step does, seen operation by operation: the bytes that are alive, and the work."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Shaped
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

CONVOLUTIONS = ("aten::convolution", "aten::convolution_backward")
OVER_ALL = "aten::_foreach_"


@dataclass(frozen=True)
class Work:
    """One operation on the device.

    Args:
        flops: floating-point operations, as PyTorch's own counter has them; 0 of what it does not count.
        convolves: whether it is a convolution.
        moved: bytes that it reads and writes.
        updates: whether it is one over all weights at once, as an optimiser's are, which no batch makes longer.
    """

    flops: int
    convolves: bool
    moved: int
    updates: bool = False


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, those with storage in common once.

    Attributes:
        live: bytes of all that was seen and still is.
        gradients: those of them that are gradients of parameters.
        peak: the most that was alive since `restart`.
        peak_beside: the most that was alive beside gradients since `restart`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.gradients = self.peak = self.peak_beside = 0
        self._known: dict[int, int] = {}

    def see(self, tensor: Shaped[Tensor, "..."]) -> None:
        """Count a tensor from now until nothing holds its storage."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        self._known[storage._cdata] = size = storage.nbytes()
        weakref.finalize(storage, self._forget, storage._cdata)
        self.live += size
        self.peak = max(self.peak, self.live)
        self.peak_beside = max(self.peak_beside, self.live - self.gradients)

    def restart(self) -> None:
        """Look for the most from here on."""
        self.peak, self.peak_beside = self.live, self.live - self.gradients

    @contextmanager
    def telling_gradients(self, parameters: list[nn.Parameter]) -> Iterator[None]:
        """Note meanwhile each gradient of a parameter when it is whole."""
        handles = [parameter.register_post_accumulate_grad_hook(self._came) for parameter in parameters]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _came(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.gradients += bytes_of(parameter.grad)

    def _forget(self, key: int) -> None:
        self.live -= self._known.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in _tensors(found):
            self.see(tensor)
        return found


class Worked(TorchDispatchMode):
    """Notes the work of each operation that touches values."""

    def __init__(self) -> None:
        super().__init__()
        self.work: list[Work] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            packet = func._overloadpacket
            count = flop_registry.get(packet)
            flops = count(*args, **(kwargs or {}), out_val=found) if count else 0
            moved = sum(map(bytes_of, [*_tensors((args, kwargs)), *_tensors(found)]))
            name = packet._qualified_op_name
            self.work.append(Work(int(flops), name in CONVOLUTIONS, moved, updates=name.startswith(OVER_ALL)))
        return found


def bytes_of(tensor: Shaped[Tensor, "..."]) -> int:
    """Bytes of a tensor's values."""
    return tensor.numel() * tensor.element_size()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
