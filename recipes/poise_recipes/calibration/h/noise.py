"""The share of labels that are noise, as the likelihood sees it."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.h.rows import Rows

ROUNDS = 25  # of expectation-maximisation


@dataclass(frozen=True)
class Noise:
    """Labels of which a share, in 0…1, comes from a hot distribution, and the rest from log 1/T = log_inverse."""

    log_inverse: float
    share: float


def share_of_noise(rows: Rows, log_inverse: Float[Tensor, " K"], hot: float) -> Noise | None:
    """The share of noise, of log 1/T = hot, and the best log 1/T of these for the other labels; None without noise.

    Noise is taken to be there if the two have a likelihood that pays, over the one temperature that `rows` have, for
    one more parameter (the Bayesian information criterion).
    """
    signal = torch.stack([_log_likelihood(rows, each) for each in log_inverse.tolist()])
    noise = _log_likelihood(rows, hot)
    share = torch.full_like(log_inverse, 0.5)[:, None]
    for _ in range(ROUNDS):
        share = (share.logit() + noise - signal).sigmoid().mean(1, keepdim=True)
    both = torch.logaddexp((-share).log1p() + signal, share.log() + noise).sum(1)
    found = int(both.argmax())
    gain = float(both[found] - _log_likelihood(rows, 0.0).sum())
    if gain <= math.log(len(noise)) / 2:
        return None
    return Noise(float(log_inverse[found]), float(share[found, 0]))


def _log_likelihood(rows: Rows, log_inverse: float) -> Float[Tensor, " N"]:
    """Of each example's label at this log 1/T."""
    each = [
        (math.exp(log_inverse) * log_p).log_softmax(0).gather(0, label[None])[0]
        for log_p, label in zip(rows.log_p, rows.label, strict=True)
    ]
    return torch.cat(each).double()
