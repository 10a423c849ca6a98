"""Random changes of training pictures that keep their class: on the device, and the same on any number of ranks."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

Draw = Callable[[str, int], Float[Tensor, "B draws"]]


class Augmentation:
    """Base of everything that `augment=` can name.

    Parameters are constructor arguments, kept under their own names.

    Attributes:
        draws: random numbers that each picture takes.
    """

    draws: ClassVar[int] = 0

    def check(self, height: int, width: int) -> None:
        """Refuse pictures that it would make nothing of.

        Raises:
            UserError: says which size of it fits.
        """

    def apply(self, x: Float[Tensor, "B C H W"], u: Float[Tensor, "B draws"]) -> Float[Tensor, "B C h w"]:
        """The pictures, changed as `u` decides.

        Args:
            x: pictures in their valid range, not normalised; not to be written to.
            u: uniform numbers in [0, 1), `draws` for each picture.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it does to pictures: define `apply`.")


def augmented(members: Mapping[str, Augmentation], x: Float[Tensor, "B C H W"], draw: Draw) -> Float[Tensor, "B C h w"]:
    """Pictures after all members, in order; `draw(alias, draws)` gives a member's random numbers."""
    for alias, member in members.items():
        x = member.apply(x, draw(alias, member.draws))
    return x
