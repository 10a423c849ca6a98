"""Parameters in groups: those near the input learn more slowly, norms and biases are not decayed, where asked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from poise.models.classifier import Classifier
from poise.models.depth import layers


@dataclass(frozen=True)
class Grouping:
    """How an optimiser's parameters differ from each other.

    Args:
        layer_decay: factor on the learning rate from one layer to the one before it, in (0, 1].
        decay_norms_and_biases: whether weight decay shrinks tensors with one axis as well.
    """

    layer_decay: float = 1.0
    decay_norms_and_biases: bool = True


ALIKE = Grouping()


@dataclass(frozen=True)
class Group:
    """Parameters that one rule holds for.

    Args:
        parameters: of the group.
        lr_factor: on the optimiser's learning rate.
        decays: whether the optimiser's weight decay is theirs; else it is 0.
    """

    parameters: list[nn.Parameter]
    lr_factor: float
    decays: bool


def parameter_groups(model: Classifier, parameters: Iterable[nn.Parameter], grouping: Grouping) -> list[Group]:
    """Parameters in groups, each in one; the first group has the highest learning rate.

    With L layers in the backbone, those of layer l = 1 … L have the factor layer_decay^(L + 1 - l), and all other
    parameters, the head's and those of recipes, 1.

    Sources: Clark et al., ELECTRA, 2020, arXiv 2003.10555; Bao et al., BEiT, 2022, arXiv 2106.08254. Departures: what
    a layer is follows the model's structure (`poise.models.depth`), and a norm after the last block is part of it.

    Args:
        model: whose layers count.
        parameters: what the optimiser is over, in order.
        grouping: what is asked for.
    """
    factors = _factors(model, grouping.layer_decay)
    groups: dict[tuple[float, bool], Group] = {}
    for parameter in parameters:
        factor, decays = factors.get(parameter, 1.0), grouping.decay_norms_and_biases or parameter.ndim > 1
        group = groups.setdefault((factor, decays), Group([], factor, decays))
        group.parameters.append(parameter)
    return [groups[rule] for rule in sorted(groups, reverse=True)]


def _factors(model: Classifier, layer_decay: float) -> dict[nn.Parameter, float]:
    """Factors of the backbone's parameters."""
    named = dict(model.backbone.named_parameters())
    found = layers(model.backbone)
    return {named[name]: layer_decay ** (len(found) - depth) for depth, names in enumerate(found) for name in names}


def optimizer_over(make: Callable[[Iterable[Any]], Optimizer], groups: list[Group]) -> Optimizer:
    """An optimiser over groups.

    Args:
        make: from parameters or PyTorch's parameter groups to an optimiser.
        groups: at least one.
    """
    if len(groups) == 1 and groups[0].lr_factor == 1.0 and groups[0].decays:
        return make(groups[0].parameters)
    optimizer = make(
        [{"params": group.parameters} | ({} if group.decays else {"weight_decay": 0.0}) for group in groups]
    )
    for theirs, group in zip(optimizer.param_groups, groups, strict=True):
        theirs["lr"] *= group.lr_factor
    return optimizer
