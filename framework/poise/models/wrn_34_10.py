"""WRN-34-10."""

from collections.abc import Sequence
from typing import Annotated

from annotated_types import Ge, Lt

from poise.models.classifier import Classifier
from poise.models.wide_resnet import wide_resnet


def wrn_34_10(
    num_classes: int,
    input_shape: Sequence[int],
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    mean: list[float] | None = None,
    std: list[float] | None = None,
) -> Classifier:
    """The wide residual network of depth 34 and width 10: `wide_resnet` with these.

    Args:
        num_classes: C.
        input_shape: (channels, height, width), sides of 8 or more; made for 32.
        dropout: share of values that are dropped between a block's convolutions.
        mean: one number, or one for each channel; None is 0.5. 0, with a std of 1, leaves inputs as they are.
        std: likewise; None is 0.25.

    Raises:
        UserError: not an image, one smaller than 8x8, or statistics of another number of channels.
    """
    return wide_resnet(num_classes, input_shape, 34, 10, dropout, mean, std)
