"""The residual block that normalises first, of pre-activation and wide residual networks."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import dropout, relu

from poise.models.residual import conv3x3


class PreactivationBlock(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice, and a way around them from [B, before, H, W].

    Where the shapes differ, the way around is a 1x1 convolution of what the first convolution sees; its name is that
    of published weights.

    Args:
        before: channels of the input.
        after: channels of the output.
        stride: of the first convolution.
        drop: share of values that are dropped before the second convolution.
    """

    def __init__(self, before: int, after: int, stride: int, drop: float = 0.0) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), conv3x3(before, after, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(after), conv3x3(after, after)
        self.drop = drop
        same = before == after and stride == 1
        self.convShortcut = None if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "B before H W"]) -> Float[Tensor, "B after h w"]:
        """With a stride of 2, h and w are half of H and W, rounded up."""
        h = relu(self.bn1(x))
        around: Tensor = x if self.convShortcut is None else self.convShortcut(h)
        h = relu(self.bn2(self.conv1(h)))
        if self.drop:
            h = dropout(h, self.drop, self.training)
        return around + self.conv2(h)
