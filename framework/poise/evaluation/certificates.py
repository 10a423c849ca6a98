"""What votes among noisy copies of an example prove: bounds of probabilities, and radii that follow from them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from poise.errors import UserError
from poise.figures.certified import Certified

ABSTAINS = -1  # in place of a class


@dataclass(frozen=True)
class Certificates:
    """For each example a class and the ℓ2 radius within which a smoothed classifier gives it.

    Args:
        predicted: classes; -1 where nothing is certain.
        radius: in input units, >= 0; 0 where nothing is certain.
        label: true classes.
    """

    predicted: Int[Tensor, " N"]
    radius: Float[Tensor, " N"]
    label: Int[Tensor, " N"]

    @property
    def right(self) -> Bool[Tensor, " N"]:
        """Whose certified class is the label."""
        return self.predicted == self.label

    def accuracy(self, radius: float) -> float:
        """Share of the examples that are certified right at this radius or a larger one."""
        return float((self.right & (self.radius >= radius)).double().mean())

    def metrics(self, prefix: str, radii: Iterable[float]) -> dict[str, float]:
        """`<prefix>certified_accuracy/<radius>`, `<prefix>average_certified_radius`, `<prefix>abstention_rate`."""
        return {f"{prefix}certified_accuracy/{radius:g}": self.accuracy(radius) for radius in radii} | {
            f"{prefix}average_certified_radius": float((self.radius * self.right).double().mean()),
            f"{prefix}abstention_rate": float((self.predicted == ABSTAINS).double().mean()),
        }

    def drawing(self, split: str, method: str, sigma: float, copies: int, alpha: float, reach: float) -> Certified:
        """The curve of the certified accuracy; arguments are those of the figure."""
        radii = tuple(self.radius[self.right].sort().values.tolist())
        abstained = int((self.predicted == ABSTAINS).sum())
        return Certified(split, method, sigma, copies, alpha, reach, radii, abstained, len(self.label))

    def note(self, method: str, sigma: float, copies: int, alpha: float) -> str:
        """What was certified, as a report says it."""
        return (
            f"Certified by {method}: {len(self.label):,} test examples, sigma = {sigma:g}, n = {copies:,}, "
            f"alpha = {alpha:g} for each."
        )


def certified(
    predicted: Int[Tensor, " N"], radius: Float[Tensor, " N"], certain: Bool[Tensor, " N"], label: Int[Tensor, " N"]
) -> Certificates:
    """The certificates of those classes and radii that are certain."""
    return Certificates(torch.where(certain, predicted, ABSTAINS), radius.where(certain, 0.0), label)


def lower_bound(hits: Int[Tensor, " N"], copies: int, alpha: float) -> Float[Tensor, " N"]:
    """What probabilities are at least, float64: each bound is wrong with a probability of alpha at most.

    Clopper, Pearson: The use of confidence or fiducial limits illustrated in the case of the binomial, 1934, one-sided.

    Args:
        hits: how many of the copies were hits, in 0…copies.
        copies: drawn independently, 1 or more.
        alpha: in (0, 1).
    """
    from scipy.special import betaincinv

    some = hits.clamp(min=1).double()
    found = torch.from_numpy(betaincinv(some.numpy(), (copies - some + 1).numpy(), alpha))
    return found.where(hits > 0, 0.0)


def quantile(probability: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Φ⁻¹, of a standard normal distribution; -inf at 0."""
    return torch.special.ndtri(probability)


def is_ahead(first: Int[Tensor, " N"], second: Int[Tensor, " N"], alpha: float) -> Bool[Tensor, " N"]:
    """Whether the class with the most votes is the most probable one, by the two-sided binomial test of the first two.

    Hung, Fithian: Rank verification for exponential families, 2019, arXiv 1610.03944.

    Args:
        first: votes of the class with the most.
        second: votes of the next.
        alpha: probability, at most, of a class that is not.
    """
    from scipy.special import betainc

    tail = betainc(first.clamp(min=1).double().numpy(), second.double().numpy() + 1, 0.5)
    return (2 * torch.from_numpy(tail) <= alpha) & (first > 0)


def voted_accuracy(votes: Int[Tensor, "N C"], label: Int[Tensor, " N"], alpha: float) -> float:
    """That of the class with the most votes; where it is not the most probable one at `alpha`, an error."""
    (first, second), (predicted, _) = (part.unbind(1) for part in votes.topk(2, dim=1))
    return float(((predicted == label) & is_ahead(first, second, alpha)).double().mean())


def furthest(copies: int, alpha: float) -> float:
    """Φ⁻¹ of the bound where all copies agree: no certificate is larger.

    Raises:
        UserError: that is not above 0, so that nothing could ever be certified.
    """
    if alpha ** (1 / copies) <= 0.5:
        needed = math.floor(math.log(alpha) / math.log(0.5)) + 1
        raise UserError(
            f"n={copies} noisy copies prove nothing at alpha={alpha:g}, even if all agree: set n to {needed} or more."
        )
    return float(quantile(lower_bound(torch.tensor([copies]), copies, alpha)))
