"""Pictures in another light."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from poise.data.augmentation import Augmentation
from poise.data.pictures import grey


class ColorJitter(Augmentation):
    """Change brightness, contrast and saturation of pictures [B, C, H, W] in 0…1, each picture's by its own factors.

    A factor is uniform in 1 ± the parameter: of the distance from black, from the picture's mean grey and from each
    pixel's grey. After A. Howard, Some Improvements on Deep Convolutional Neural Network Based Image Classification,
    2013, arXiv 1312.5402. Departures from torchvision's ColorJitter: the three come in this order, not in a random one,
    and the hue stays.

    Args:
        brightness: 0 to 1.
        contrast: 0 to 1.
        saturation: 0 to 1; does nothing to pictures of one channel.
    """

    draws: ClassVar[int] = 3

    def __init__(
        self,
        brightness: Annotated[float, Ge(0), Le(1)] = 0.4,
        contrast: Annotated[float, Ge(0), Le(1)] = 0.4,
        saturation: Annotated[float, Ge(0), Le(1)] = 0.4,
    ) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation

    def apply(self, x: Float[Tensor, "B C H W"], u: Float[Tensor, "B 3"]) -> Float[Tensor, "B C H W"]:
        """The pictures; u decides on brightness, contrast and saturation."""
        brighter, harder, richer = (
            1 + most * (2 * u[:, place].view(-1, 1, 1, 1) - 1)
            for place, most in enumerate((self.brightness, self.contrast, self.saturation))
        )
        x = (brighter * x).clamp(0, 1)
        x = blended(x, grey(x).mean((1, 2, 3), keepdim=True), harder)
        return blended(x, grey(x), richer)


def blended(
    x: Float[Tensor, "B C H W"], centre: Float[Tensor, "B 1 _ _"], factor: Float[Tensor, "B 1 1 1"]
) -> Float[Tensor, "B C H W"]:
    """The pictures with their distance from a centre multiplied, kept in 0…1."""
    return (centre + factor * (x - centre)).clamp(0, 1)
