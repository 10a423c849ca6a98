"""Does an attack without gradients stay below one with them?"""

from poise.attacks.square import Square
from poise.honesty.check import Check, share_limit
from poise.honesty.sample import Sample

LIMIT = 0.05
QUERIES = 200
ADVICE = (
    "an attack that sees no gradient finds what gradients hide: count only on what AutoAttack leaves, by its Square"
)


def square(sample: Sample) -> Check:
    """A short Square attack is to break hardly any example that gradients could not.

    Croce, Hein, 2020, arXiv 2003.01690, allow 0.2 points after all white-box attacks of AutoAttack. This one follows
    PGD alone, which leaves honest networks about four points above AutoAttack, of which Square may find some.
    """
    attack = Square(sample.subject.threat, queries=QUERIES)
    right = sample.right_under(lambda model, x, y, index: attack(model, x, y, sample.subject.seed, index))
    survivors = sample.attacked.right
    gain = float((survivors & ~right).double().mean())
    asks = f"what {QUERIES} queries of square break and pgd does not"
    return Check("square", asks, gain, share_limit(LIMIT, len(sample)), ADVICE)
