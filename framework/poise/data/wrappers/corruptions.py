"""The test split in noise, blur, fog and bad files."""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from jaxtyping import Int, Shaped
from torch import Tensor

from poise.data.corruptions.draws import Draws
from poise.data.corruptions.kinds import KINDS
from poise.data.dataset import Arrays, Splits
from poise.data.stored import Change, held
from poise.data.wrapper import Wrapper, refuse_empty, refuse_no_pictures
from poise.errors import UserError

SMALLEST = 4  # pixels of a side


class Corruptions(Wrapper):
    """Named shifts: the test split under each corruption at each severity, called like `gaussian_noise-3`.

    Source: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
    2019, arXiv 1903.12261, with the severities of CIFAR-10-C whatever the size of the pictures. What is random is keyed
    by the seed and the picture's place, and the same at every severity. Pictures are corrupted when they are read, and
    stay uint8 where they were.

    Departures: eight bits are rounded to, where the authors cut off; `jpeg_compression` and `pixelate` are PIL's, and
    the former depends on its version. Of the nineteen kinds `glass_blur`, `snow`, `frost`, `spatter` and
    `elastic_transform` are not here.

    Args:
        kinds: which corruptions.
        severity: from the mildest, 1, to the worst, 5; of several each kind gives as many shifts.
    """

    adds: ClassVar[bool] = True

    def __init__(
        self,
        kinds: tuple[
            Literal[
                "gaussian_noise",
                "shot_noise",
                "impulse_noise",
                "speckle_noise",
                "gaussian_blur",
                "defocus_blur",
                "motion_blur",
                "zoom_blur",
                "brightness",
                "contrast",
                "saturate",
                "fog",
                "pixelate",
                "jpeg_compression",
            ],
            ...,
        ] = ("gaussian_noise", "motion_blur", "fog", "jpeg_compression"),
        severity: tuple[Annotated[int, Ge(1), Le(5)], ...] = (3,),
    ) -> None:
        self.kinds = kinds
        self.severity = severity

    def wrap(self, splits: Splits, seed: int) -> Splits:
        """The splits with further shifts.

        Raises:
            UserError: data that are no pictures of 1 or 3 channels in 0…1, or very small ones; a shift that the data
                have.
        """
        refuse_no_pictures(splits, "corruptions")
        refuse_empty(self.said("kinds"), self.kinds)
        refuse_empty(self.said("severity"), self.severity)
        if splits.valid_range != (0.0, 1.0) or min(splits.input_shape[1:]) < SMALLEST:
            raise UserError(f"corruptions needs pictures in 0 to 1 of {SMALLEST} × {SMALLEST} pixels or more.")
        test = splits.test
        held_test = Arrays(held(test.x), test.label, test.group)
        found = {
            f"{kind}-{severity}": held_test.changed(_corruption(kind, severity, seed))
            for kind in self.kinds
            for severity in self.severity
        }
        for name in found:
            if name in splits.shifts:
                raise UserError(f"{self.said('kinds')}: the data have a shift {name!r} already: leave it out of kinds.")
        return replace(splits, shifts={**splits.shifts, **found})


def _corruption(kind: str, severity: int, seed: int) -> Change:
    def corrupted(x: Shaped[Tensor, "B C H W"], positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B C H W"]:
        if not len(x):
            return x
        pictures = x.float() / 255 if x.dtype == torch.uint8 else x
        draws = Draws(f"{seed}/{kind}", positions, pictures)
        seen = KINDS[kind](pictures, severity, draws).clamp(0, 1)
        return (255 * seen).round().to(torch.uint8) if x.dtype == torch.uint8 else seen

    return corrupted
