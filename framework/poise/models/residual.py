"""What the residual networks share: stages of blocks, global pooling, a linear head, normalisation inside."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

from poise.errors import UserError
from poise.models.classifier import Classifier

MEAN, STD = 0.5, 0.25  # of any pictures in [0, 1], near enough: CIFAR-10's are 0.47 and 0.25 over its channels


def conv3x3(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias, padded by 1."""
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


def stage(
    block: Callable[[int, int, int], nn.Module], count: int, before: int, after: int, stride: int
) -> nn.Sequential:
    """Blocks from `before` to `after` channels, the first of them with a stride."""
    widths = [before, *[after] * count]
    strides = [stride, *[1] * (count - 1)]
    return nn.Sequential(*(block(*pair, step) for pair, step in zip(pairwise(widths), strides, strict=True)))


def pooled() -> nn.Sequential:
    """The mean over all places, [B, D, H, W] to [B, D]."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def with_head(
    backbone: nn.Sequential,
    head: nn.Linear,
    head_name: str,
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Classifier:
    """The whole classifier. Its stages, those modules that are sequences of blocks, are the named layers.

    Args:
        backbone: from normalised images to features [B, D].
        head: from features to logits.
        head_name: what published weights call the head.
        channels: of the images.
        mean: one number, or one for each channel; None is `MEAN`.
        std: likewise; None is `STD`.

    Raises:
        UserError: as many numbers as the images have no channels.
    """
    for name, given in (("mean", mean), ("std", std)):
        if given is not None and len(given) not in (1, channels):
            raise UserError(
                f"model.{name} has {len(given)} numbers, the data's images {channels} channel{'s' * (channels > 1)}: "
                "give one number, or one for each channel."
            )
    stages = [name for name, part in backbone.named_children() if name.startswith(("layer", "block"))]
    return Classifier(
        backbone,
        head,
        mean=MEAN if mean is None else mean,
        std=STD if std is None else std,
        layer_names=stages,
        head_name=head_name,
        channels_last=True,
    )
