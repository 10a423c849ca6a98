"""A convolutional network with batch norm for small images."""

from collections.abc import Sequence

from torch import nn

from poise.models.classifier import Classifier
from poise.models.shapes import image_channels


def small_bn_cnn(num_classes: int, input_shape: Sequence[int], width: int = 16) -> Classifier:
    """Four 3x3 convolutions with batch norm in two blocks, pooled to 2x2, and one linear layer.

    Args:
        num_classes: C.
        input_shape: (channels, height, width), sides of 8 or more; made for 8 to 32.
        width: channels of the first block; the second has twice as many.

    Raises:
        UserError: not an image, or one smaller than 8x8.
    """
    channels = image_channels("small_bn_cnn", input_shape)
    backbone = nn.Sequential()
    backbone.add_module("block1", _block(channels, width))
    backbone.add_module("block2", _block(width, 2 * width))
    backbone.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()))
    head = nn.Linear(8 * width, num_classes)
    return Classifier(backbone, head, mean=0.5, std=0.25, layer_names=("block1", "block2"))


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )
