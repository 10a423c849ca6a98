"""Are a model's outputs logits, and the same each time?"""

import torch
from torch import Tensor

from poise.honesty.check import Check
from poise.honesty.sample import Sample
from poise.models.classifier import Classifier
from poise.suspicion import no_logits

AGAIN = 1e-4
ADVICE_AGAIN = "an attack on a random model has to average over its randomness: see AutoAttack, of version=rand"
ADVICE_LOGITS = "what is a probability already has gradients that vanish: leave the model's softmax out"


def random_outputs(sample: Sample) -> Check:
    """The largest difference between the probabilities of two passes over the same inputs.

    The limit is AutoAttack's: Croce, Hein, 2020, arXiv 2003.01690, and its authors' code.
    """
    largest = torch.zeros(())

    def twice(model: Classifier, x: Tensor, label: Tensor, index: Tensor) -> Tensor:
        with torch.no_grad():
            one, other = (model(x).float().softmax(1) for _ in range(2))
        largest.copy_(torch.maximum(largest, (one - other).abs().max().cpu()))
        return x

    sample.right_under(twice)
    found = float(sample.subject.ranks.max(largest))
    return Check("random_outputs", "by how much two passes differ", found, AGAIN, ADVICE_AGAIN)


def probabilities(sample: Sample) -> Check:
    """Whether the outputs are no logits but probabilities: not below zero, with a sum of one."""
    found = float(bool(no_logits(sample.clean)))
    return Check("probabilities", "whether outputs look like them", found, 0.5, ADVICE_LOGITS)
