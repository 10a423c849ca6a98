"""Is noise weaker than the attack?"""

import torch
from torch import Tensor

from poise.attacks.attack import is_right
from poise.attacks.draws import Draws
from poise.honesty.check import Check
from poise.honesty.sample import Sample
from poise.models.classifier import Classifier

LIMIT = 0.01
TIMES = 10
ADVICE = "an attack that random noise beats follows gradients that say nothing"


def noise(sample: Sample) -> Check:
    """Random points of the threat, several for each example, are to break no more than the attack does.

    Carlini et al., On Evaluating Adversarial Robustness, 2019, arXiv 1902.06705.
    """
    threat = sample.subject.threat

    def worst(model: Classifier, x: Tensor, label: Tensor, index: Tensor) -> Tensor:
        draws = Draws.of(sample.subject.seed, index.to(x.device))
        found = x
        for number in range(TIMES):
            uniform = 2 * draws.named("noise", number).uniform(*x.shape[1:]).to(x.dtype) - 1
            right = is_right(model, found, label).reshape(-1, *[1] * (x.ndim - 1))
            found = torch.where(right, threat.start(x, uniform), found)
        return found

    asks = f"what {TIMES} points at random break beyond pgd"
    found = sample.beyond(sample.right_under(worst), sample.attacked.right)
    return Check("noise", asks, found.share, found.limit(LIMIT), ADVICE)
