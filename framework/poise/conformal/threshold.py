"""The threshold of split conformal prediction, and how many examples it takes."""

import math
from fractions import Fraction

import torch
from jaxtyping import Float, Int
from torch import Tensor, inf

from poise.data.checks import check_tensor
from poise.errors import UserError
from poise.examples import check_labels
from poise.number_checks import check_counts, check_shares


def threshold(strangeness: Float[Tensor, " n"], alpha: float) -> float:
    """The ⌈(n + 1)(1 - alpha)⌉-th smallest score of true labels; inf where there are too few of them.

    The next example's true label is as strange or less with a probability of 1 - alpha or more if it is exchangeable
    with these, and of 1 - alpha + 1/(n + 1) at most if no two scores are alike. Given these n, that probability follows
    a Beta(k, n + 1 - k) distribution. A score that is no number counts as larger than all others.

    Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005; Lei et al., Distribution-Free Predictive
    Inference for Regression, 2018, arXiv 1604.04173.

    Args:
        strangeness: of examples that nothing was fitted to.
        alpha: share of the sets, at most, without the true label; in (0, 1).

    Raises:
        UserError: scores are no tensor [n], or alpha is another number.
    """
    _check_scores(strangeness)
    place = rank(len(strangeness), alpha)
    if place > len(strangeness):
        return inf
    return float(strangeness.nan_to_num(nan=inf, posinf=inf).kthvalue(place).values)


def thresholds_by_class(
    strangeness: Float[Tensor, " n"], label: Int[Tensor, " n"], num_classes: int, alpha: float
) -> Float[Tensor, " C"]:
    """A threshold of each class, of its own examples: coverage holds for every class by itself, float64.

    Vovk: Conditional validity of inductive conformal predictors, 2012, arXiv 1209.2673.

    Args:
        strangeness: of the true labels of examples that nothing was fitted to.
        label: of these.
        num_classes: C; the threshold of a class with fewer than `fewest(alpha)` examples is inf.
        alpha: in (0, 1).

    Raises:
        UserError: scores are no tensor [n], labels no integers [n] in 0…C-1, or alpha is another number.
    """
    _check_scores(strangeness)
    check_counts("thresholds_by_class", num_classes=num_classes)
    check_labels(label, len(strangeness), num_classes, "thresholds_by_class")
    of_class = [threshold(strangeness[label == place], alpha) for place in range(num_classes)]
    return torch.tensor(of_class, dtype=torch.float64)


def spread(count: int, alpha: float) -> tuple[float, float]:
    """Between what the coverage of a threshold by so many examples lies in 95 % of cases, of examples without end.

    Ends of the Beta distribution of `threshold`; (1, 1) where all labels are taken in.
    """
    from scipy.stats import beta

    place = rank(count, alpha)
    if place > count:
        return 1.0, 1.0
    low, high = beta.interval(0.95, place, count + 1 - place)
    return float(low), float(high)


def rank(count: int, alpha: float) -> int:
    """⌈(count + 1)(1 - alpha)⌉, of alpha as it is written: rounding would lift some a place too high."""
    check_shares("a threshold", alpha=alpha)
    return math.ceil((count + 1) * (1 - Fraction(str(alpha))))


def fewest(alpha: float) -> int:
    """How many examples a threshold below inf takes: ⌈1/alpha⌉ - 1."""
    check_shares("a threshold", alpha=alpha)
    return math.ceil(1 / Fraction(str(alpha))) - 1


def _check_scores(strangeness: object) -> None:
    given = check_tensor(strangeness, "strangeness")
    if given.ndim != 1:
        raise UserError(f"strangeness has shape {tuple(given.shape)}: a threshold takes a score for each example, [n].")
