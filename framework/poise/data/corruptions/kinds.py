"""The corruptions by name."""

from collections.abc import Callable, Mapping

from jaxtyping import Float
from torch import Tensor

from poise.data.corruptions.blurs import defocus_blur, gaussian_blur, motion_blur, zoom_blur
from poise.data.corruptions.draws import Draws
from poise.data.corruptions.files import jpeg_compression, pixelate
from poise.data.corruptions.noises import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from poise.data.corruptions.tones import brightness, contrast, fog, saturate

Pictures = Float[Tensor, "B C H W"]
Corruption = Callable[[Pictures, int, Draws], Pictures]

KINDS: Mapping[str, Corruption] = {
    function.__name__: function
    for function in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        speckle_noise,
        gaussian_blur,
        defocus_blur,
        motion_blur,
        zoom_blur,
        brightness,
        contrast,
        saturate,
        fog,
        pixelate,
        jpeg_compression,
    )
}
