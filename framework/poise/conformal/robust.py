"""Sets that hold the true label though its input was changed within an ℓ2 ball: RSCP+ with PTT.

Noisy copies of an input are scored, and their mean is how strange a label is. The mean over all noise, of which the
copies are a sample, changes slowly with the input: its Φ⁻¹ by ‖δ‖₂/σ at most. What the sample may be off by is added.

Source: Yan, Romano, Weng, Provably Robust Conformal Prediction with Improved Efficiency, 2024, arXiv 2404.19651, after
Gendler et al., Adversarially Robust Conformal Prediction, 2022. Departures from the authors' code: thresholds are
scores that were seen, where the code interpolates between two; an input's slack is its own, where the code takes that
of another row; noise is keyed on the example.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from poise.conformal.threshold import threshold
from poise.errors import UserError
from poise.number_checks import check_shares

STEEPNESS = 400.0  # of the sigmoid, as published

Scores = Float[Tensor, "n C"]


@dataclass(frozen=True)
class Sampled:
    """Scores in [0, 1] of noisy copies of N inputs.

    Args:
        mean: over the copies.
        variance: of one copy's score, as the copies tell it: unbiased.
    """

    mean: Float[Tensor, "N C"]
    variance: Float[Tensor, "N C"]


def hps(logits: Scores) -> Scores:
    """1 - p of each label, in [0, 1], float64: what is scored of a noisy copy."""
    return 1 - logits.double().softmax(-1)


def ptt(held_out: Float[Tensor, " h"], alpha: float) -> Callable[[Scores], Scores]:
    """A monotone map of scores to [0, 1] that sends almost all true labels' to 0, so that slack costs them little.

    r is the share of held-out scores that are no larger; the map is the sigmoid of 400·(r - (1 - alpha)).

    Args:
        held_out: scores of true labels of noisy inputs, one copy of each; neither thresholds nor tests are of these.
        alpha: of the sets.

    Raises:
        UserError: alpha is no number between 0 and 1.
    """
    check_shares("ptt", alpha=alpha)
    known = held_out.double().sort().values

    def transformed(scores: Scores) -> Scores:
        below = torch.searchsorted(known.to(scores.device), scores.double().contiguous(), right=True)
        return torch.sigmoid(STEEPNESS * (below.double() / len(known) - (1 - alpha)))

    return transformed


def hoeffding(copies: int, beta: float) -> float:
    """By how much the mean of so many scores in [0, 1] is too low at most, but with a probability of beta."""
    return math.sqrt(math.log(1 / beta) / (2 * copies))


def bernstein(variance: Float[Tensor, "N C"], copies: int, beta: float) -> Float[Tensor, "N C"]:
    """By how much the mean of so many scores in [0, 1] is too high at most, but with a probability of beta.

    Maurer, Pontil: Empirical Bernstein Bounds and Sample Variance Penalization, 2009, arXiv 0907.3740.

    Args:
        variance: of these scores, unbiased.
        copies: 2 or more.
        beta: in (0, 1).
    """
    unlikely = math.log(2 / beta)
    return (2 * variance * unlikely / copies).sqrt() + 7 * unlikely / (3 * (copies - 1))


def robust_threshold(strangeness: Float[Tensor, " n"], alpha: float, beta: float) -> float:
    """q⁺, the threshold at 1 - alpha + 2·beta: both bounds of the means may fail, each with a probability of beta.

    Args:
        strangeness: mean scores of true labels of inputs as they are, to which nothing was fitted.
        alpha: share of the sets, at most, without the true label.
        beta: in (0, alpha / 2).

    Raises:
        UserError: beta leaves nothing of alpha.
    """
    check_beta(alpha, beta)
    return threshold(strangeness, alpha - 2 * beta)


def check_beta(alpha: float, beta: float) -> None:
    """Raises UserError unless what beta takes off alpha leaves some of it."""
    check_shares("robust sets", alpha=alpha, beta=beta)
    if 2 * beta >= alpha:
        raise UserError(
            f"beta={beta:g} takes 2·beta off alpha={alpha:g}, which leaves nothing: set beta below {alpha / 2:g}."
        )


def robust_sets(
    mean: Float[Tensor, "N C"], above: Float[Tensor, "N C"], most: float, below: float, distance: float
) -> Bool[Tensor, "N C"]:
    """The labels with Φ⁻¹(mean - above) - distance ≤ Φ⁻¹(most + below); all where scores are no numbers.

    The true label is among them with a probability of 1 - alpha or more, whatever an attacker does within the ball.

    Args:
        mean: scores of the inputs as they came, attacked or not.
        above: by how much each may be too high, by `bernstein`.
        most: q⁺.
        below: by how much scores of inputs as they were may be too low, by `hoeffding`.
        distance: radius of the ball over σ of the noise.
    """
    lowest = torch.special.ndtri((mean.double() - above).clamp(min=0)) - distance
    highest = torch.special.ndtri(torch.tensor(min(most + below, 1.0), dtype=torch.float64))
    return ~(lowest > highest)
