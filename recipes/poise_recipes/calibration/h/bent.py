"""Maps that bend every log-probability by one increasing line of straight segments."""

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise_recipes.calibration.h.mapping import Mapping

REACH = 100.0  # nats of u = -log p that the segments share; the last one goes on for ever


class Bent(Mapping):
    """Probabilities softmax(-φ(-log p)), where φ goes from 0 upwards, with a slope for each of S equal segments.

    What the slopes are as a function of the parameters is all that families differ in.
    """

    @abstractmethod
    def steepness(self, parameters: Float[Tensor, " P"]) -> Float[Tensor, " S"]:
        """The slope of each segment, above 0; gradients pass."""

    def probabilities(self, log_p: Float[Tensor, "C N"], parameters: Float[Tensor, " P"]) -> Float[Tensor, "C N"]:
        """The softmax of bent log-probabilities."""
        return self._bent(log_p, parameters).softmax(0)

    def slopes(
        self,
        log_p: Float[Tensor, "C N"],
        parameters: Float[Tensor, " P"],
        probability: Float[Tensor, "C N"],
        slope: Float[Tensor, "C N"],
    ) -> Float[Tensor, " P"]:
        """Along a segment's slope φ changes by the part of it that lies below u: all of it where u is beyond."""
        along_logit = probability * (slope - (probability * slope).sum(0))
        with torch.enable_grad():
            moved = parameters.detach().requires_grad_()
            steepness = self.steepness(moved)
        place, past = _place(-log_p, len(steepness))
        ended = _sums(place, along_logit, len(steepness))
        beyond = ended.sum() - ended.cumsum(0)
        along = -_sums(place, along_logit * past, len(steepness)) - beyond * (REACH / len(steepness))
        return torch.autograd.grad(steepness, moved, along)[0]

    def log_probabilities(self, log_p: Float[Tensor, "C N"], parameters: Float[Tensor, " P"]) -> Float[Tensor, "C N"]:
        """The same in logarithms."""
        return self._bent(log_p, parameters).log_softmax(0)

    def _bent(self, log_p: Float[Tensor, "C N"], parameters: Float[Tensor, " P"]) -> Float[Tensor, "C N"]:
        steepness = self.steepness(parameters)
        height = (steepness.cumsum(0) - steepness) * (REACH / len(steepness))
        place, past = _place(-log_p, len(steepness))
        return -(height.to(log_p.dtype)[place] + steepness.to(log_p.dtype)[place] * past)


def _place(u: Float[Tensor, "C N"], segments: int) -> tuple[Int[Tensor, "C N"], Float[Tensor, "C N"]]:
    """The segment in which u lies, and how far past its beginning."""
    width = REACH / segments
    place = (u / width).clamp(0, segments - 1).floor()
    return place.long(), u - width * place


def _sums(place: Int[Tensor, "C N"], value: Float[Tensor, "C N"], segments: int) -> Float[Tensor, " S"]:
    """Of the values in each segment."""
    return torch.bincount(place.flatten(), value.flatten().double(), segments)
