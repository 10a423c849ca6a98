"""Small things that are done to pictures [B, C, H, W]."""

from jaxtyping import Float
from torch import Tensor


def grey(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 H W"]:
    """How bright each pixel is, as ITU-R BT.601 has it; of pictures that have not three channels, their mean."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    red, green, blue = x.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
