"""Accuracy that is proved, within ℓ2 balls, by smoothing two halves of a picture apart."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from jaxtyping import Float, Int
from torch import Tensor

from poise.data.dataset import Splits
from poise.evaluation.certificates import Certificates, certified, furthest, lower_bound, quantile, voted_accuracy
from poise.evaluation.votes import Ballot, evenly_spread, misfit, votes
from poise.evaluator import Evaluator, Findings, Subject
from poise.halves import checkerboards, half_in_noise

METHOD = "dual randomized smoothing"


class CertifyDual(Evaluator):
    """Certified ℓ2 robustness by dual randomized smoothing: two halves of the pixels vote apart, each in its own noise.

    Pictures are split like a checkerboard (`poise.halves`). What is certified is g(x), the class whose probabilities
    in the two halves have the largest sum. For each example the class with the most votes of both is chosen; in each
    half `n` fresh copies bound its probability from below by Clopper and Pearson at alpha/2, p and q. Then g gives that
    class at every input nearer than R = σ·(Φ⁻¹(p) + Φ⁻¹(q))/√2, which is tight for such a rule, and where that sum is
    not above 0 the example abstains, which counts as an error: wrong with a probability of `alpha` at most, for each
    example. Noise is not clipped; it is keyed by (seed, half, position).

    One network classifies both halves, so it has to be trained on them (recipe=dual_smoothing): whole pictures, of
    which `accuracy` and the choice of the epoch are, are another thing to it. Where less than half of what it gets
    right of them is certified, a warning says so.

    It costs each example `2·(n0 + n)` passes: by default 220 000 together. The authors' scripts have n0 = 200 and, for
    CIFAR-10, n = 10 000 and every 5th example. With equal halves R = √2·σ·Φ⁻¹(p), so σ = 0.18 compares with 0.25 of
    `certify`.

    Source: Xia et al., Mitigating the Curse of Dimensionality for Certified Robustness via Dual Randomized Smoothing,
    2024, arXiv 2404.09586. Departures from the authors' code: the script for CIFAR-10 gives the root of the sum of the
    squared radii of the halves, those below 0 as 0, and bounds each half at alpha, which certifies more than holds (at
    p = 0.99, q = 0.7 a radius of 2.39·σ, where an attack succeeds at 2.02·σ); those for ImageNet give the radius above,
    clipped likewise. One network in place of two; rows of the mask start in turn (in theirs one pair breaks the order).

    Args:
        sigma: σ of the noise, in input units.
        n0: noisy copies of each half that choose the class.
        n: noisy copies of each half that bound its probability.
        alpha: probability, at most, of a certificate that does not hold.
        examples: of test, evenly spread, that are certified.
        radii: whose certified accuracy is a metric, in input units; those that `n` copies cannot certify are left out.
    """

    def __init__(
        self,
        sigma: Annotated[float, Gt(0)] = 0.18,
        n0: Annotated[int, Ge(1)] = 100,
        n: Annotated[int, Ge(1)] = 1000,
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.001,
        examples: Annotated[int, Ge(1)] = 100,
        radii: tuple[Annotated[float, Ge(0)], ...] = (0.0, 0.25, 0.5, 0.75, 1.0),
    ) -> None:
        self.sigma = sigma
        self.n0 = n0
        self.n = n
        self.alpha = alpha
        self.examples = examples
        self.radii = radii
        self._reach = sigma * 2**0.5 * furthest(n, alpha / 2)

    def check(self, splits: Splits) -> None:
        """Refuse inputs without halves."""
        checkerboards(torch.empty(splits.input_shape))

    def evaluate(self, subject: Subject) -> Findings:
        """On test `dual_certified_accuracy/<radius>`, `dual_average_certified_radius`, and the two below.

        The average is over all examples, those that are wrong or abstain at 0, of which `dual_abstention_rate` is the
        share. `dual_smoothed_accuracy` is that of g by the votes of the `n` copies of both halves, an example whose
        first two classes are too close at `alpha` counting as an error: by the test of `certify`, whose votes are of
        one kind, and so vary more than these, of which each half has a fixed number.
        """
        some = evenly_spread(subject, self.examples)
        ballots = [
            Ballot(f"{side} {purpose}", copies, self.sigma, view)
            for purpose, copies in (("selection", self.n0), ("estimation", self.n))
            for side, view in (("left", left), ("right", right))
        ]
        first, second, one, other = votes(subject, some, ballots, "certify halves of test").unbind(1)
        label = subject.splits.test.label[some].cpu()
        found = dual_certificates(first + second, (one, other), self.n, label, self.sigma, self.alpha)
        smoothed = voted_accuracy(one + other, label, self.alpha)
        metrics = found.metrics("test/dual_", [radius for radius in self.radii if radius <= self._reach])
        drawing = found.drawing("test", METHOD, self.sigma, self.n, self.alpha, self._reach)
        seen = f"halves in noise of sigma={self.sigma:g}"
        return Findings(
            metrics | {"test/dual_smoothed_accuracy": smoothed},
            {"test-dual-certified-accuracy": drawing},
            notes=(found.note(METHOD, self.sigma, self.n, self.alpha),),
            doubts=misfit(subject, some, found.accuracy(0.0), seen, "evaluation.certify_dual.sigma"),
        )


def left(x: Float[Tensor, "*input"], noise: Float[Tensor, "n *input"]) -> Float[Tensor, "n *input"]:
    """Copies of one half of a picture in noise."""
    return half_in_noise(x, noise, checkerboards(x)[0])


def right(x: Float[Tensor, "*input"], noise: Float[Tensor, "n *input"]) -> Float[Tensor, "n *input"]:
    """Copies of the other half."""
    return half_in_noise(x, noise, checkerboards(x)[1])


def dual_certificates(
    selection: Int[Tensor, "N C"],
    estimation: tuple[Int[Tensor, "N C"], Int[Tensor, "N C"]],
    copies: int,
    label: Int[Tensor, " N"],
    sigma: float,
    alpha: float,
) -> Certificates:
    """What the votes of two halves prove: the class that the first ones choose, within σ·(Φ⁻¹(p) + Φ⁻¹(q))/√2.

    A change moves the halves by s and u, with s + u ≤ √2·‖change‖, and Φ(Φ⁻¹(p) - s/σ) + Φ(Φ⁻¹(q) - u/σ) > 1 just
    where s + u < σ·(Φ⁻¹(p) + Φ⁻¹(q)).

    Args:
        selection: votes of both halves that choose the class.
        estimation: votes of fresh copies of each half.
        copies: how many of these there were of each half.
        label: true classes.
        sigma: of the noise.
        alpha: probability, at most, of a certificate that does not hold.
    """
    chosen = selection.argmax(1)
    p, q = (lower_bound(half.gather(1, chosen[:, None])[:, 0], copies, alpha / 2) for half in estimation)
    radius = sigma * (quantile(p) + quantile(q)) / 2**0.5
    return certified(chosen, radius, radius > 0, label)
