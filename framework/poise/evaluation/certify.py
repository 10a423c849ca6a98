"""Accuracy that is proved, within ℓ2 balls, by randomized smoothing."""

from typing import Annotated

from annotated_types import Ge, Gt, Lt
from jaxtyping import Int
from torch import Tensor

from poise.evaluation.certificates import Certificates, certified, furthest, lower_bound, quantile, voted_accuracy
from poise.evaluation.votes import Ballot, evenly_spread, misfit, votes
from poise.evaluator import Evaluator, Findings, Subject

METHOD = "randomized smoothing"


class Certify(Evaluator):
    """Certified ℓ2 robustness of the smoothed classifier g: x ↦ the class that most of x + σ·N(0, I) fall to.

    For each example the class with the most votes of `n0` noisy copies is chosen; of `n` fresh copies the share that it
    gets bounds its probability from below, p, by Clopper and Pearson. Where p is 1/2 or more, g gives that class at
    every input nearer than R = σ·Φ⁻¹(p), whatever an attacker knows; this is wrong with a probability of `alpha` at
    most, for each example. Else the example abstains, which counts as an error. Noise is added to inputs in their valid
    range and never clipped; it is keyed by (seed, position). What is certified is g, of the uncalibrated model, and not
    the model alone.

    σ is a parameter of this evaluation, whatever the training was: a model does best that was trained on noise of the
    same σ. Where less than half of what it gets right is certified, a warning says so.

    It costs each example `n0 + n` passes: by default 110 000 together, some seconds of a small network on a CPU. The
    published numbers are of n = 100 000 and of every 20th example of CIFAR-10, 50 million passes. No radius is larger
    than 2.46·σ with n = 1000, 3.20·σ with 10 000 and 3.81·σ with 100 000, at alpha = 0.001.

    Source: Cohen et al., Certified Adversarial Robustness via Randomized Smoothing, 2019, arXiv 1902.02918, algorithms
    CERTIFY and PREDICT. Departures from the authors' code: none but in where random numbers come from.

    Args:
        sigma: σ of the noise, in input units.
        n0: noisy copies that choose the class.
        n: noisy copies that bound its probability.
        alpha: probability, at most, of a certificate that does not hold.
        examples: of test, evenly spread, that are certified.
        radii: whose certified accuracy is a metric, in input units; those that `n` copies cannot certify are left out.
    """

    def __init__(
        self,
        sigma: Annotated[float, Gt(0)] = 0.25,
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
        self._reach = sigma * furthest(n, alpha)

    def evaluate(self, subject: Subject) -> Findings:
        """On test `certified_accuracy/<radius>`, `average_certified_radius`, `abstention_rate`, `smoothed_accuracy`.

        The average is over all examples, those that are wrong or abstain at 0. `smoothed_accuracy` is that of g by the
        votes of the `n` copies, an example whose first two classes are too close at `alpha` counting as an error.
        """
        some = evenly_spread(subject, self.examples)
        ballots = (Ballot("selection", self.n0, self.sigma), Ballot("estimation", self.n, self.sigma))
        selection, estimation = votes(subject, some, ballots, "certify test").unbind(1)
        label = subject.splits.test.label[some].cpu()
        found = certificates(selection, estimation, self.n, label, self.sigma, self.alpha)
        smoothed = voted_accuracy(estimation, label, self.alpha)
        metrics = found.metrics("test/", [radius for radius in self.radii if radius <= self._reach])
        drawing = found.drawing("test", METHOD, self.sigma, self.n, self.alpha, self._reach)
        seen = f"inputs in noise of sigma={self.sigma:g}"
        return Findings(
            metrics | {"test/smoothed_accuracy": smoothed},
            {"test-certified-accuracy": drawing},
            notes=(found.note(METHOD, self.sigma, self.n, self.alpha),),
            doubts=misfit(subject, some, found.accuracy(0.0), seen, "evaluation.certify.sigma"),
        )


def certificates(
    selection: Int[Tensor, "N C"],
    estimation: Int[Tensor, "N C"],
    copies: int,
    label: Int[Tensor, " N"],
    sigma: float,
    alpha: float,
) -> Certificates:
    """What the votes prove: the class that the first ones choose, within σ·Φ⁻¹(p), p bounded by the others.

    Args:
        selection: votes that choose the class.
        estimation: votes of fresh copies.
        copies: how many of these there were of each example.
        label: true classes.
        sigma: of the noise.
        alpha: probability, at most, of a certificate that does not hold.
    """
    chosen = selection.argmax(1)
    bound = lower_bound(estimation.gather(1, chosen[:, None])[:, 0], copies, alpha)
    return certified(chosen, sigma * quantile(bound), bound >= 0.5, label)
