"""Is a transferred attack weaker than a direct one?"""

from poise.honesty.check import Check
from poise.honesty.sample import Sample
from poise.honesty.substitute import substitute
from poise.modes import in_mode

LIMIT = 0.01
ADVICE = "what another network's gradients find the model's own hide: robustness is that of the transferred attack"
NO_INPUTS = "there are no inputs beside test to train a substitute on"


def transfer(sample: Sample) -> Check:
    """The same attack on a substitute distilled from the model is to break less than on the model itself.

    Athalye, Carlini, Wagner: Obfuscated Gradients Give a False Sense of Security, 2018, arXiv 1802.00420.
    """
    subject, asks = sample.subject, "what pgd on a substitute breaks beyond pgd"
    known = max((subject.splits.train, subject.splits.calibration, subject.splits.val), key=len)
    if not len(known):
        return Check("transfer", asks, None, LIMIT, ADVICE, NO_INPUTS)
    with in_mode(subject.model, "eval"):
        own = substitute(subject.model, known, subject.splits.num_classes, subject.seed)
    attack = sample.pgd(subject.threat, sample.steps)
    right = sample.right_under(lambda model, x, y, index: attack(own, x, y, subject.seed, index))
    found = sample.beyond(right, sample.attacked.right)
    return Check("transfer", asks, found.share, found.limit(LIMIT), ADVICE)
