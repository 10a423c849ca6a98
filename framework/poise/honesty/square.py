"""Does an attack without gradients stay below one with them?"""

from poise.attacks.square import Square
from poise.honesty.check import Check, share_limit
from poise.honesty.sample import Sample

LIMIT = 0.02
QUERIES = 200
ADVICE = (
    "an attack that sees no gradient finds what gradients hide: take version=standard, and doubt its white-box part"
)


def square(sample: Sample) -> Check:
    """A short Square attack is to break hardly any example that gradients could not.

    Croce, Hein, 2020, arXiv 2003.01690, allow 0.2 points after all white-box attacks of AutoAttack; this one follows
    a single one, and is itself short.
    """
    attack = Square(sample.subject.threat, queries=QUERIES)
    right = sample.right_under(lambda model, x, y, index: attack(model, x, y, sample.subject.seed, index))
    survivors = sample.attacked.right
    gain = float((survivors & ~right).double().mean())
    asks = f"what {QUERIES} queries of square break and pgd does not"
    return Check("square", asks, gain, share_limit(LIMIT, len(sample)), ADVICE)
