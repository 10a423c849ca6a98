"""Wide residual networks for small images."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from annotated_types import Ge, Lt
from torch import nn

from poise.errors import UserError
from poise.models.classifier import Classifier
from poise.models.preactivation import PreactivationBlock
from poise.models.residual import conv3x3, pooled, stage, with_head
from poise.models.shapes import image_channels


def wide_resnet(
    num_classes: int,
    input_shape: Sequence[int],
    depth: Annotated[int, Ge(10)] = 28,
    width: Annotated[int, Ge(1)] = 10,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    mean: list[float] | None = None,
    std: list[float] | None = None,
) -> Classifier:
    """A wide residual network, WRN-depth-width: three stages of pre-activation blocks.

    Zagoruyko and Komodakis, Wide Residual Networks, 2016, arXiv 1605.07146, table 1. Weights start as theirs, normal
    with variance 2 / (9·channels out), and are called as in the code of TRADES and AWP, so that published ones load
    with `model.checkpoint`. Inputs are normalised inside as `(x - mean) / std`.

    Args:
        num_classes: C.
        input_shape: (channels, height, width), sides of 8 or more; made for 32.
        depth: 6·n + 4 for n blocks in each stage.
        width: the stages have 16, 32 and 64 channels times this.
        dropout: share of values that are dropped between a block's convolutions; 0.3 in the paper where there is any.
        mean: one number, or one for each channel; None is 0.5. 0, with a std of 1, leaves inputs as they are.
        std: likewise; None is 0.25.

    Raises:
        UserError: another depth, not an image, one smaller than 8x8, or statistics of another number of channels.
    """
    if depth < 10 or (depth - 4) % 6:
        raise UserError(f"model.depth={depth}: a wide residual network has a depth of 10, 16, 22, 28, 34, 40 …")
    channels = image_channels(f"wide_resnet (WRN-{depth}-{width})", input_shape)
    block = partial(PreactivationBlock, drop=dropout)
    backbone = nn.Sequential()
    backbone.add_module("conv1", conv3x3(channels, 16))
    before = 16
    for number, after in enumerate((16 * width, 32 * width, 64 * width), start=1):
        blocks = nn.Sequential()
        blocks.add_module("layer", stage(block, (depth - 4) // 6, before, after, stride=1 if number == 1 else 2))
        backbone.add_module(f"block{number}", blocks)
        before = after
    backbone.add_module("bn1", nn.BatchNorm2d(before))
    backbone.add_module("relu", nn.ReLU())
    backbone.add_module("pool", pooled())
    model = with_head(backbone, nn.Linear(before, num_classes), "fc", channels, mean, std)
    model.apply(_start)
    return model


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
