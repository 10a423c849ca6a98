"""Do more steps help?"""

from jaxtyping import Bool
from torch import Tensor

from poise.attacks.pgd import PGD
from poise.honesty.check import Check
from poise.honesty.sample import Sample

TIMES = 5
LIMIT = 0.02
ADVICE = "gradients lead nowhere further in, as after catastrophic overfitting or under a mask: doubt the attack"
ENOUGH = 0.05
NOT_ENOUGH = "the attack had not come to its end: take more steps, or count on AutoAttack (version=standard)"


def steps(sample: Sample) -> list[Check]:
    """Whether more steps help, and whether there were enough of them."""
    longer = _right_under(sample, sample.pgd(sample.subject.threat, TIMES * sample.steps))
    return [_more_steps(sample, longer), _enough_steps(sample, longer)]


def _more_steps(sample: Sample, longer: Bool[Tensor, " N"]) -> Check:
    """Fewer steps are to break no more than many: one, as long as the radius, than those; those than five times them.

    Carlini et al., On Evaluating Adversarial Robustness, 2019, arXiv 1902.06705: iterative attacks are stronger than
    single steps wherever gradients are of use.
    """
    threat, right = sample.subject.threat, sample.attacked.right
    one = _right_under(sample, sample.pgd(threat, 1, threat.eps))
    pairs = (sample.beyond(one, right), sample.beyond(right, longer))
    worst = max(pairs, key=lambda pair: pair.share - pair.limit(LIMIT))
    return Check("more_steps", "what fewer steps break beyond more", worst.share, worst.limit(LIMIT), ADVICE)


def _enough_steps(sample: Sample, longer: Bool[Tensor, " N"]) -> Check:
    """Five times the steps are to break hardly more: else the accuracy reported is that of a weak attack."""
    found = sample.beyond(longer, sample.attacked.right)
    asks = f"what {TIMES * sample.steps} steps break beyond {sample.steps}"
    return Check("enough_steps", asks, found.share, found.limit(ENOUGH), NOT_ENOUGH)


def _right_under(sample: Sample, attack: PGD) -> Bool[Tensor, " N"]:
    return sample.right_under(lambda model, x, y, index: attack(model, x, y, sample.subject.seed, index))
