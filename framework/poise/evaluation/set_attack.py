"""What an attacker does to inputs so that their conformal sets lose the true label."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from poise.attacks.attack import at_least_float32
from poise.attacks.draws import Draws
from poise.attacks.pgd import pgd
from poise.attacks.threat import Threat
from poise.models.classifier import Classifier
from poise.predictions import Attack

Forward = Callable[[Float[Tensor, "B *input"]], Float[Tensor, "B C"]]


@dataclass(frozen=True)
class SetAttack:
    """PGD that makes true labels stranger, of every example: one that is predicted wrong may be in its set still.

    Its loss is the cross-entropy of the model, or of what noise leaves of it: -log (1/m)·Σᵢ p_y(x + σ·nᵢ), of which the
    gradient is that of the mean probability over m noisy copies, the same m at every step. That is SmoothAdv-PGD, by
    which the authors of RSCP+ attack it; the probability's mean is what is smoothed, since PTT has steps and so no
    gradient. Departure from their code: the noise of the attack is not that of the sets, for whose bounds an input may
    not hang on it.

    Sources: Salman et al., Provably Robust Deep Learning via Adversarially Trained Smoothed Classifiers, 2019, arXiv
    1906.04584; Yan et al., 2024, arXiv 2404.19651.

    Args:
        threat: what is allowed.
        steps: gradients, from one random start; each goes 2.5·eps/steps.
        sigma: of the noise, in input units; 0 for the model as it is.
        copies: noisy ones of each example, m passes and m gradients a step.
    """

    threat: Threat
    steps: int
    sigma: float = 0.0
    copies: int = 1

    @property
    def name(self) -> str:
        """`pgd-<steps>`, or of what is smoothed `smoothed-pgd-<steps>`."""
        return f"smoothed-pgd-{self.steps}" if self.sigma else f"pgd-{self.steps}"

    @property
    def settings(self) -> Mapping[str, float]:
        """As numbers by name: the radius by its norm, steps, and of noise its σ and copies."""
        noise = {"attack_sigma": self.sigma, "attack_copies": float(self.copies)} if self.sigma else {}
        return {f"eps_{self.threat.norm}": self.threat.eps, "steps": float(self.steps), **noise}

    def __str__(self) -> str:
        """Such as `PGD of 20 steps on the cross-entropy, linf, eps = 8/255`."""
        noise = f" of mean probabilities over {self.copies} copies in noise of sigma = {self.sigma:g}"
        return f"PGD of {self.steps} steps on the cross-entropy{noise if self.sigma else ''}, {self.threat}"

    def on(self, seed: int, index: Int[Tensor, " N"], at_once: int) -> Attack:
        """The attack as `predict` takes it.

        Args:
            seed: of all draws.
            index: positions of the examples in their split, of which draws are.
            at_once: inputs of a pass, at most, where a single example's copies are no more.
        """
        rows = max(1, at_once // self.copies)

        def attacked(model: Classifier, x: Tensor, label: Tensor, position: Tensor) -> Tensor:
            draws = Draws.of(seed, index[position].to(x.device)).named("conformal", self.name)
            pieces = torch.arange(len(x), device=x.device).split(rows)
            return torch.cat([self._climbed(model, x[some], label[some], draws.rows(some)) for some in pieces])

        return attacked

    def _climbed(self, model: Classifier, x: Tensor, label: Tensor, draws: Draws) -> Tensor:
        noise = draws.named("start").uniform(*x.shape[1:]).to(x.dtype)
        start = self.threat.start(x, 2 * noise - 1)
        forward = self._smoothed(model, x, draws) if self.sigma else model

        def loss(z: Float[Tensor, "B *input"]) -> Float[Tensor, " B"]:
            return cross_entropy(at_least_float32(forward(z)), label, reduction="none")

        return pgd(loss, x, start, self.threat, self.steps, 2.5 * self.threat.eps / self.steps)

    def _smoothed(self, model: Classifier, x: Tensor, draws: Draws) -> Forward:
        """The logarithm of the mean probabilities of noisy copies, which are passed together."""
        noise = self.sigma * draws.named("noise").normal(self.copies, *x.shape[1:]).to(x.dtype)

        def forward(z: Float[Tensor, "B *input"]) -> Float[Tensor, "B C"]:
            logits = at_least_float32(model((z[:, None] + noise).flatten(0, 1)))
            of_copies = logits.log_softmax(-1).unflatten(0, noise.shape[:2])
            return of_copies.logsumexp(1) - math.log(self.copies)

        return forward
