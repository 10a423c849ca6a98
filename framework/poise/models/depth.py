"""Which of a backbone's weights are how far from its input."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn


def layers(backbone: nn.Module) -> list[list[str]]:
    """The names of a backbone's weights, layer by layer, from the input on; each name in one layer.

    A layer is a block where blocks are repeated (what `nn.Sequential`, `nn.ModuleList` or `nn.ModuleDict` hold, where
    that has modules of its own), else a module with weights. Norms belong to the layer before them, and what a module
    holds beside its sub-modules, such as position embeddings, to the layer after it. Modules count in the order in
    which they were made.
    """
    names = dict(backbone.named_parameters())
    found: list[list[str]] = []
    waiting: list[str] = []  # for the layer after them
    for piece in _pieces(backbone, ""):
        own = [name for name in piece.weights if name in names]  # a weight that is shared has one name
        if piece.loose or not (found or piece.starts):
            waiting += own
        elif piece.starts:
            found.append([*waiting, *own])
            waiting = []
        else:
            found[-1] += own
    return [*found, waiting] if waiting else found


@dataclass(frozen=True)
class _Piece:
    """Weights by name that stay together; loose ones stand beside sub-modules."""

    weights: Mapping[str, Tensor]
    loose: bool = False

    @property
    def starts(self) -> bool:
        """Whether they make a layer: norms, whose weights have one axis, do not."""
        return any(weight.ndim > 1 for weight in self.weights.values())


def _pieces(module: nn.Module, prefix: str) -> Iterator[_Piece]:
    loose = {f"{prefix}{name}": weight for name, weight in module.named_parameters(recurse=False)}
    if loose:
        yield _Piece(loose, loose=True)
    for name, child in module.named_children():
        path = f"{prefix}{name}."
        if any(_repeats(part) for part in child.modules()):
            yield from _pieces(child, path)
        else:
            yield _Piece({f"{path}{name}": weight for name, weight in child.named_parameters()})


def _repeats(module: nn.Module) -> bool:
    holds = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    return holds and any(True for child in module.children() for _ in child.children())
