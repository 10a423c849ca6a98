"""Does a huge radius break all?"""

from dataclasses import replace

import torch

from poise.attacks.threat import Threat
from poise.batch import as_input
from poise.honesty.check import Check
from poise.honesty.sample import Sample

ADVICE = "an attacker may turn every input into the same one, and yet the attack fails: it is the attack that is weak"


def huge_radius(sample: Sample) -> Check:
    """Where all inputs can be turned into their mean, no model is right more often than the largest class is there.

    Carlini et al., On Evaluating Adversarial Robustness, 2019, arXiv 1902.06705: unbounded attacks reach 100 %.
    """
    threat = _reaching(sample)
    attack = sample.pgd(threat, sample.steps)
    right = sample.right_under(lambda model, x, y, index: attack(model, x, y, sample.subject.seed, index))
    chance = float(torch.bincount(sample.data.label.cpu()).max()) / len(sample)
    asks = f"accuracy at a radius of {threat.eps:.3g}"
    return Check("huge_radius", asks, float(right.double().mean()), chance, ADVICE)


def _reaching(sample: Sample) -> Threat:
    """The run's threat with a radius in which the mean of all examples lies for each of them."""
    x = as_input(sample.data.fetch(torch.arange(len(sample)))["x"])
    threat = sample.subject.threat
    centre = x.mean(0, keepdim=True).expand_as(x)
    return replace(threat, eps=max(threat.eps, float(threat.distance(x, centre).max())))
