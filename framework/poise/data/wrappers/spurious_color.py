"""Pictures whose colour goes along with the class, but for a minority."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Int, Shaped
from torch import Tensor

from poise.data.colors import COLORS, correlated, tinted
from poise.data.dataset import Arrays, Splits
from poise.data.keys import generator
from poise.data.wrapper import Wrapper, refuse_no_pictures
from poise.errors import UserError


class SpuriousColor(Wrapper):
    """Tint every picture, in a colour that goes along with its class in training and otherwise in test.

    The own colour of class c is the (c mod K)-th of K; a picture has it with probability (1 + (K-1)·correlation) / K,
    else any other. Groups are class and colour, named like `7,red`, number K·c + colour; groups that the data had are
    gone. Pictures of one channel get three. Named shifts are tinted like test; streams and OOD sets at random.

    After coloured MNIST: Arjovsky et al., Invariant Risk Minimization, 2019, arXiv 1907.02893, which has two classes,
    two colours, correlations 0.6 and 0.8 in training and -0.8 in test, and wrong labels besides (stack `label_noise`
    before this).

    Args:
        correlation: of colour and class in train, val and calibration, from -1 / (K-1) to 1.
        test_correlation: the same in test; at 0 all groups of a class are equally large.
        colors: K: of red, green, blue, yellow, magenta and cyan the first so many.
        strength: share of the light of other colours that is taken away; at 1 a red picture has no green and no blue.
    """

    def __init__(
        self,
        correlation: Annotated[float, Ge(-1), Le(1)] = 0.9,
        test_correlation: Annotated[float, Ge(-1), Le(1)] = 0.0,
        colors: Annotated[int, Ge(2), Le(6)] = 2,
        strength: Annotated[float, Gt(0), Le(1)] = 1.0,
    ) -> None:
        for name, value in (("correlation", correlation), ("test_correlation", test_correlation)):
            if value < -1 / (colors - 1):
                least = f"{-1 / (colors - 1):.4g}"
                raise UserError(
                    f"spurious_color.{name}={value:g}: with {colors} colours {least} is the least there is."
                )
        self.correlation = correlation
        self.test_correlation = test_correlation
        self.colors = colors
        self.strength = strength

    def wrap(self, splits: Splits, seed: int) -> Splits:
        """The splits in colour, with groups.

        Raises:
            UserError: data that are no pictures of one channel or three.
        """
        refuse_no_pictures(splits, "spurious_color")
        main = {
            name: self._tinted(split, self.test_correlation if name == "test" else self.correlation, seed, name)
            for name, split in splits.main.items()
        }
        return replace(
            splits,
            train=main["train"],
            val=main["val"],
            calibration=main["calibration"],
            test=main["test"],
            shifts={
                name: self._tinted(split, self.test_correlation, seed, f"shifts.{name}")
                for name, split in splits.shifts.items()
            },
            streams={n: self._at_random(split, seed, f"streams.{n}") for n, split in splits.streams.items()},
            ood={name: self._at_random(split, seed, f"ood.{name}") for name, split in splits.ood.items()},
            group_names=tuple(f"{c},{color}" for c in splits.class_names for color in self._names),
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(COLORS)[: self.colors]

    def _tinted(self, split: Arrays, correlation: float, seed: int, name: str) -> Arrays:
        color = correlated(split.label % self.colors, self.colors, correlation, generator(seed, name))
        seen = split.changed(self._glass(color))
        return Arrays(seen.x, split.label, self.colors * split.label + color)

    def _at_random(self, split: Arrays, seed: int, name: str) -> Arrays:
        """Examples whose classes are not known, or mean nothing."""
        color = torch.randint(self.colors, (len(split),), generator=generator(seed, name))
        seen = split.changed(self._glass(color))
        return Arrays(seen.x, split.label)

    def _glass(self, color: Int[Tensor, " N"]) -> Callable[[Tensor, Tensor], Shaped[Tensor, "B 3 H W"]]:
        def seen(x: Shaped[Tensor, "B channels H W"], positions: Int[Tensor, " B"]) -> Shaped[Tensor, "B 3 H W"]:
            return tinted(x, color[positions], self.strength)

        return seen
