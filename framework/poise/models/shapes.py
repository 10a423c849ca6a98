"""Checks of input shapes that several models share."""

from collections.abc import Sequence

from poise.errors import UserError


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
