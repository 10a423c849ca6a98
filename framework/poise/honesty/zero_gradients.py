"""Do inputs have gradients?"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from poise.attacks.attack import gradient_of
from poise.honesty.check import Check, share_limit
from poise.honesty.sample import Sample
from poise.models.classifier import Classifier

LIMIT = 0.01
ADVICE = "where the gradient is exactly zero an attack along it stands still: look for rounding or saturated logits"


def zero_gradients(sample: Sample) -> Check:
    """The share of examples, of those predicted right, whose input gradient of the cross-entropy is exactly zero.

    In float32 that of a smooth model is so only where its margin exceeds a hundred.
    """
    counts = torch.zeros(2, dtype=torch.float64)

    def counted(model: Classifier, x: Tensor, label: Tensor, index: Tensor) -> Tensor:
        with torch.enable_grad():
            own = x.clone().requires_grad_()
            logits = model(own)
            gradient = gradient_of(cross_entropy(logits, label, reduction="sum"), own)
        right = logits.argmax(1) == label
        zero = (gradient.flatten(1) == 0).all(1) & right
        counts.add_(torch.stack([zero.sum(), right.sum()]).cpu())
        return x

    sample.right_under(counted)
    zero, right = sample.subject.ranks.sum(counts).tolist()
    share = zero / right if right else 0.0
    limit = share_limit(LIMIT, int(right))
    return Check("zero_gradients", "share of gradients exactly zero", share, limit, ADVICE)
