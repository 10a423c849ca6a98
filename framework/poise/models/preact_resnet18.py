"""Pre-activation ResNet-18 for small images."""

from collections.abc import Sequence

from torch import nn

from poise.models.classifier import Classifier
from poise.models.preactivation import PreactivationBlock
from poise.models.residual import conv3x3, pooled, stage, with_head
from poise.models.shapes import image_channels

WIDTHS = (64, 128, 256, 512)


def preact_resnet18(
    num_classes: int, input_shape: Sequence[int], mean: list[float] | None = None, std: list[float] | None = None
) -> Classifier:
    """ResNet-18 with pre-activation in its CIFAR form, the network of fast adversarial training.

    He et al., Identity Mappings in Deep Residual Networks, 2016, arXiv 1603.05027, as
    github.com/locuslab/fast_adversarial sizes it, with PyTorch's own initialisation. Departure from that code: where
    shapes differ, the way around a block starts after its first norm and ReLU, as in the paper, not before them.
    Inputs are normalised inside as `(x - mean) / std`.

    Args:
        num_classes: C.
        input_shape: (channels, height, width), sides of 8 or more; made for 32.
        mean: one number, or one for each channel; None is 0.5. 0, with a std of 1, leaves inputs as they are.
        std: likewise; None is 0.25.

    Raises:
        UserError: not an image, one smaller than 8x8, or statistics of another number of channels.
    """
    channels = image_channels("preact_resnet18", input_shape)
    backbone = nn.Sequential()
    backbone.add_module("conv1", conv3x3(channels, WIDTHS[0]))
    before = WIDTHS[0]
    for number, width in enumerate(WIDTHS, start=1):
        blocks = stage(PreactivationBlock, 2, before, width, stride=1 if number == 1 else 2)
        backbone.add_module(f"layer{number}", blocks)
        before = width
    backbone.add_module("bn", nn.BatchNorm2d(before))
    backbone.add_module("relu", nn.ReLU())
    backbone.add_module("pool", pooled())
    return with_head(backbone, nn.Linear(before, num_classes), "linear", channels, mean, std)
