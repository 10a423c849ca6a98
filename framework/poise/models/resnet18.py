"""ResNet-18 for small images."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu

from poise.models.classifier import Classifier
from poise.models.residual import conv3x3, pooled, stage, with_head
from poise.models.shapes import image_channels

WIDTHS = (64, 128, 256, 512)


def resnet18(
    num_classes: int, input_shape: Sequence[int], mean: list[float] | None = None, std: list[float] | None = None
) -> Classifier:
    """ResNet-18 in its CIFAR form: the first convolution is 3x3 with stride 1, and no pooling follows it.

    He et al., Deep Residual Learning for Image Recognition, 2016, arXiv 1512.03385, with the widths of its ImageNet
    form, as github.com/kuangliu/pytorch-cifar and the code of TRADES have it: PyTorch's own initialisation, and names
    under which their weights load with `model.checkpoint`. Inputs are normalised inside as `(x - mean) / std`.

    Args:
        num_classes: C.
        input_shape: (channels, height, width), sides of 8 or more; made for 32.
        mean: one number, or one for each channel; None is 0.5. 0, with a std of 1, leaves inputs as they are.
        std: likewise; None is 0.25.

    Raises:
        UserError: not an image, one smaller than 8x8, or statistics of another number of channels.
    """
    channels = image_channels("resnet18", input_shape)
    backbone = nn.Sequential()
    backbone.add_module("conv1", conv3x3(channels, WIDTHS[0]))
    backbone.add_module("bn1", nn.BatchNorm2d(WIDTHS[0]))
    backbone.add_module("relu", nn.ReLU())
    before = WIDTHS[0]
    for number, width in enumerate(WIDTHS, start=1):
        backbone.add_module(f"layer{number}", stage(_Block, 2, before, width, stride=1 if number == 1 else 2))
        before = width
    backbone.add_module("pool", pooled())
    return with_head(backbone, nn.Linear(before, num_classes), "linear", channels, mean, std)


class _Block(nn.Module):
    """Two convolutions, each normalised, and a way around them; ReLU after the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(before, after, stride), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = conv3x3(after, after), nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut.append(nn.Conv2d(before, after, 1, stride, bias=False)).append(nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        h = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(h)) + self.shortcut(x))
