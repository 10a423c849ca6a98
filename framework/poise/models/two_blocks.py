"""What the small convolutional networks share: two blocks, pooling and a linear head."""

from collections.abc import Callable, Sequence

from torch import nn

from poise.models.classifier import Classifier
from poise.models.shapes import image_channels


def two_blocks(
    convolution: Callable[[int, int], list[nn.Module]],
    name: str,
    num_classes: int,
    input_shape: Sequence[int],
    width: int,
) -> Classifier:
    """Two blocks of two convolutions and a 2x2 pooling each, pooled to 2x2, and one linear layer.

    Args:
        convolution: the layers of one convolution from some channels to some channels.
        name: of the model, for messages.
        num_classes: C.
        input_shape: (channels, height, width), sides of 8 or more.
        width: channels of the first block; the second has twice as many.

    Raises:
        UserError: not an image, or one smaller than 8x8.
    """

    def block(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(*convolution(before, after), *convolution(after, after), nn.MaxPool2d(2))

    backbone = nn.Sequential()
    backbone.add_module("block1", block(image_channels(name, input_shape), width))
    backbone.add_module("block2", block(width, 2 * width))
    backbone.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()))
    head = nn.Linear(8 * width, num_classes)
    return Classifier(backbone, head, mean=0.5, std=0.25, layer_names=("block1", "block2"), channels_last=True)
