"""From whatever a user gives as a model to a Classifier that fits the data."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from poise.errors import UserError, nearest
from poise.models.classifier import Classifier
from poise.models.freezing import freeze
from poise.models.shapes import check_output, example_of
from poise.models.weights import load_weights


def build(
    source: nn.Module | Callable[..., nn.Module],
    num_classes: int,
    input_shape: Sequence[int],
    checkpoint: str | None = None,
    new_head: bool = False,
    frozen: Sequence[str] = (),
    channels_last: bool | None = None,
    **params: Any,
) -> Classifier:
    """A Classifier for C classes of inputs of one shape. Fresh weights come from torch's global generator.

    Args:
        source: a module from inputs in their valid range to logits (trained in place), or a function that
            makes one; the function gets `num_classes` and `input_shape` where it takes them.
        num_classes: C.
        input_shape: of one input, without the batch axis.
        checkpoint: a file of weights to load; none if None.
        new_head: whether the file's head is left out.
        frozen: parts that are not trained.
        channels_last: whether pictures have their channels last in memory; None is as the model says of itself.
        params: further arguments of the function.

    Raises:
        UserError: parameters that the function does not take or that a ready module cannot take, a result
            that is no module, inputs it cannot take, outputs that are not [B, C], weights that do not fit,
            parts that it does not have, or a layout that it cannot take.
    """
    network = (
        _ready(source, params) if isinstance(source, nn.Module) else made(source, num_classes, input_shape, params)
    )
    model = fitted(network, num_classes, input_shape)
    if checkpoint is not None:
        load_weights(checkpoint, model, new_head)
    if channels_last is not None:
        _lay_out(model, input_shape, num_classes, channels_last)
    freeze(model, frozen)
    return model


def fitted(network: nn.Module, num_classes: int, input_shape: Sequence[int]) -> Classifier:
    """The network as a Classifier, tried on an example.

    Raises:
        UserError: inputs that it cannot take, or outputs that are not [B, C].
    """
    example = example_of(network, input_shape)
    check_output(type(network).__name__, network, example, num_classes)
    return Classifier.wrap(network, num_classes, example)


def _lay_out(model: Classifier, input_shape: Sequence[int], num_classes: int, channels_last: bool) -> None:
    if channels_last and len(input_shape) != 3:
        raise UserError(
            f"model.channels_last=true is for images (channels, height, width), the data's inputs are "
            f"{tuple(input_shape)}: leave it out."
        )
    model.channels_last = channels_last
    check_output("with model.channels_last, it", model, example_of(model, input_shape), num_classes)


def _ready(network: nn.Module, params: dict[str, Any]) -> nn.Module:
    if params:
        raise UserError(
            f"model.{next(iter(params))}: a {type(network).__name__} that is already built takes no "
            "parameters; give the function that makes it."
        )
    return network


def made(
    make: Callable[..., nn.Module], num_classes: int, input_shape: Sequence[int], params: dict[str, Any]
) -> nn.Module:
    """What a function makes of its parameters, and of C and the input shape where it takes them.

    Raises:
        UserError: parameters that it does not take, or a result that is no module.
    """
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
