"""A convolutional network without batch norm for small images."""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge
from torch import nn

from poise.models.classifier import Classifier
from poise.models.two_blocks import two_blocks


def small_cnn(num_classes: int, input_shape: Sequence[int], width: Annotated[int, Ge(1)] = 16) -> Classifier:
    """Four 3x3 convolutions in two blocks, pooled to 2x2, and one linear layer; no batch norm.

    Args:
        num_classes: C.
        input_shape: (channels, height, width), sides of 8 or more; made for 8 to 32.
        width: channels of the first block; the second has twice as many.

    Raises:
        UserError: not an image, or one smaller than 8x8.
    """
    return two_blocks(_convolution, "small_cnn", num_classes, input_shape, width)


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
