"""What the maps that h-calibration may fit have in common."""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.h.rows import Rows


class Mapping(ABC):
    """A family of maps from log-probabilities to probabilities, told apart by parameters [P] in double precision.

    Each map of a family keeps the order of a row's classes. Log-probabilities have classes first, and are those of
    the best single temperature, so that the start of a family is to leave them as they are, or near.
    """

    rate: ClassVar[float]
    """Of Adam's first step in the parameters."""

    @property
    @abstractmethod
    def size(self) -> int:
        """P."""

    @abstractmethod
    def start(self, rows: Rows) -> Float[Tensor, " P"]:
        """Parameters from which a descent begins; the same whenever it is asked for."""

    @abstractmethod
    def probabilities(self, log_p: Float[Tensor, "C N"], parameters: Float[Tensor, " P"]) -> Float[Tensor, "C N"]:
        """Probabilities, in the precision of `log_p`; a few may be 0 by rounding."""

    @abstractmethod
    def slopes(
        self,
        log_p: Float[Tensor, "C N"],
        parameters: Float[Tensor, " P"],
        probability: Float[Tensor, "C N"],
        slope: Float[Tensor, "C N"],
    ) -> Float[Tensor, " P"]:
        """Derivatives along the parameters of what has this slope along the probabilities."""

    @abstractmethod
    def log_probabilities(self, log_p: Float[Tensor, "C N"], parameters: Float[Tensor, " P"]) -> Float[Tensor, "C N"]:
        """The same as `probabilities` in logarithms, without loss where they are small; gradients pass."""

    def confine(self, parameters: Float[Tensor, " P"]) -> None:
        """Bring parameters back, in place, to where they may be."""

    def at_bound(self, parameters: Float[Tensor, " P"]) -> bool:
        """Whether one is as far as it may be."""
        return False
