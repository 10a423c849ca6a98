"""Shapes of what goes into a model and comes out: checks, and an example to try."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from poise.errors import UserError
from poise.modes import in_mode


def example_of(network: nn.Module, input_shape: Sequence[int]) -> Float[Tensor, "2 *input"]:
    """Two inputs in [0, 1], the same every time, with the dtype and on the device of the network."""
    floats = (t for t in network.parameters() if t.is_floating_point())
    like = next(floats, torch.empty(0))
    if like.is_meta:
        return torch.empty(2, *input_shape, dtype=like.dtype, device="meta")
    x = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0), device="cpu")
    return x.to(device=like.device, dtype=like.dtype)


def check_output(name: str, network: nn.Module, example: Float[Tensor, "2 *input"], num_classes: int) -> None:
    """Refuse a network that does not give logits [B, C] for the example.

    Raises:
        UserError: it cannot take such inputs, or gives something else.
    """
    shape = tuple(example.shape[1:])
    with in_mode(network, "eval"), torch.no_grad():
        try:
            logits = network(example)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            raise UserError(f"model: {name} cannot take inputs of shape {shape}: {error}") from error
    if not isinstance(logits, Tensor) or logits.shape != (len(example), num_classes):
        what = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"model: {name} gives {what} for {len(example)} inputs, not logits of shape "
            f"{(len(example), num_classes)}: the data have {num_classes} classes."
        )


def image_channels(model: str, input_shape: Sequence[int], smallest: int = 8) -> int:
    """The number of channels of an image shape (channels, height, width).

    Raises:
        UserError: any other shape, or a side below `smallest`.
    """
    shape = tuple(input_shape)
    if len(shape) != 3:
        raise UserError(
            f"model={model} takes images (channels, height, width), the data's inputs are {shape}: use model=mlp."
        )
    if min(shape[1:]) < smallest:
        raise UserError(
            f"model={model} takes images of {smallest}x{smallest} or more, the data's are "
            f"{shape[1]}x{shape[2]}: use model=mlp."
        )
    return shape[0]
