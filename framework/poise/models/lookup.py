"""From whatever a user gives as a model to a Classifier that fits the data."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from poise.errors import UserError, nearest
from poise.models.classifier import Classifier
from poise.models.weights import load_weights
from poise.modes import in_mode


def build(
    source: nn.Module | Callable[..., nn.Module],
    num_classes: int,
    input_shape: Sequence[int],
    checkpoint: str | None = None,
    **params: Any,
) -> Classifier:
    """A Classifier for C classes of inputs of one shape. Fresh weights come from torch's global generator.

    Args:
        source: a module from inputs in their valid range to logits (trained in place), or a function that
            makes one; the function gets `num_classes` and `input_shape` where it takes them.
        num_classes: C.
        input_shape: of one input, without the batch axis.
        checkpoint: a file of weights to load; none if None.
        params: further arguments of the function.

    Raises:
        UserError: parameters that the function does not take or that a ready module cannot take, a result
            that is no module, inputs it cannot take, outputs that are not [B, C], or weights that do not fit.
    """
    network = (
        _ready(source, params) if isinstance(source, nn.Module) else _make(source, num_classes, input_shape, params)
    )
    example = _example(network, input_shape)
    _check_output(network, example, num_classes)
    model = Classifier.wrap(network, num_classes, example)
    if checkpoint is not None:
        load_weights(checkpoint, network, model)
    return model


def _ready(network: nn.Module, params: dict[str, Any]) -> nn.Module:
    if params:
        raise UserError(
            f"model.{next(iter(params))}: a {type(network).__name__} that is already built takes no "
            "parameters; give the function that makes it."
        )
    return network


def _make(
    make: Callable[..., nn.Module], num_classes: int, input_shape: Sequence[int], params: dict[str, Any]
) -> nn.Module:
    takes = inspect.signature(make).parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())
    name = getattr(make, "__name__", type(make).__name__)
    for key in params:
        if key not in takes and not anything:
            raise UserError(f"model.{key}: {name} takes {', '.join(takes)}.{nearest(key, list(takes))}")
    given: dict[str, Any] = {"num_classes": num_classes} if "num_classes" in takes or anything else {}
    if "input_shape" in takes:
        given["input_shape"] = tuple(input_shape)
    network = make(**given, **params)
    if not isinstance(network, nn.Module):
        raise UserError(f"model: {name} gives a {type(network).__name__}, not a torch.nn.Module.")
    return network


def _example(network: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """Two inputs in [0, 1], the same every time, with the dtype and on the device of the network."""
    floats = (t for t in network.parameters() if t.is_floating_point())
    like = next(floats, torch.empty(0))
    x = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0))
    return x.to(device=like.device, dtype=like.dtype)


def _check_output(network: nn.Module, example: Tensor, num_classes: int) -> None:
    name, shape = type(network).__name__, tuple(example.shape[1:])
    with in_mode(network, "eval"), torch.no_grad():
        try:
            logits = network(example)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise UserError(f"model: {name} cannot take inputs of shape {shape}: {error}") from error
    if not isinstance(logits, Tensor) or logits.shape != (len(example), num_classes):
        what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"model: {name} gives {what} for {len(example)} inputs, not logits of shape "
            f"{(len(example), num_classes)}: the data have {num_classes} classes."
        )
