"""Maps of one probability lifted to rows of classes: one map for each class, or one for the confidence alone."""

import logging
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, inf

from poise.batch import Predictions

log = logging.getLogger("poise")

FEW = 20  # examples of a class below which a map of its own follows their chance


def log_probabilities(logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """Normalised, in double precision; -inf for a masked class."""
    return logits.double().log_softmax(-1)


def occurred(held_out: Predictions) -> Bool[Tensor, "N C"]:
    """Whether each class is the label."""
    label = held_out.label.long()
    return torch.zeros_like(held_out.logits, dtype=torch.bool).scatter_(1, label[:, None], True)


def log_rest(log_p: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """log(1 - p) of normalised rows, exact where p rounds to 1; -inf where the other classes are masked."""
    top = log_p.argmax(-1, keepdim=True)
    below = log_p.scatter(-1, top, -inf)
    return (-below.exp()).log1p().scatter(-1, top, below.logsumexp(-1, keepdim=True))


def normalised(log_share: Float[Tensor, "N C"], log_p: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """Rows of shares that maps gave class by class, divided by their sums; a row whose sum is 0 stays `log_p`.

    Args:
        log_share: logarithms of shares >= 0; what stands there for a masked class does not count.
        log_p: the rows before calibration, normalised, -inf for masked classes.
    """
    possible = torch.where(log_p > -inf, log_share, log_p)  # what is no number stays none
    total = possible.logsumexp(-1, keepdim=True)
    return torch.where(total == -inf, log_p, possible - total)


def lifted(log_p: Float[Tensor, "N C"], confidence: Float[Tensor, " N"]) -> Float[Tensor, "N C"]:
    """Rows whose predicted class has this confidence, in 0…1, and whose other classes share what is left as before.

    A confidence too low to stay the highest is raised until the next class has as much. A row with one possible
    class stays as it is. Ties that this makes are undone by `keep_prediction`.
    """
    top = log_p.argmax(-1, keepdim=True)
    below = log_p.scatter(-1, top, -inf)
    rest = below.logsumexp(-1, keepdim=True)
    next_share = (below.amax(-1, keepdim=True) - rest).exp()  # of what the others have together
    raised = torch.maximum(confidence[:, None], next_share / (1 + next_share))
    row = (below - rest + (-raised).log1p()).scatter(-1, top, raised.log())
    return torch.where(rest == -inf, log_p, row)


def mixed_with_uniform(row: Float[Tensor, "N C"], log_p: Float[Tensor, "N C"], examples: int) -> Float[Tensor, "N C"]:
    """Rows with a share of 1/(examples + 1) spread over the possible classes, so that no label has probability 0.

    The order of a row's classes stays.

    Args:
        row: calibrated log-probabilities, normalised, -inf for a probability of 0.
        log_p: the rows before calibration, -inf for masked classes.
        examples: to which calibration was fitted.
    """
    possible = log_p != -inf
    uniform = -math.log(examples + 1) - possible.sum(-1, keepdim=True).double().log()
    return torch.logaddexp(row - math.log1p(1 / examples), uniform).where(possible, -inf)


def tell_of_few(calibrator: str, held_out: Predictions) -> None:
    """Log a warning where possible classes have so few examples that a map of their own follows their chance."""
    possible = held_out.logits.ne(-inf).any(0)
    few = int((possible & (occurred(held_out).sum(0) < FEW)).sum())
    if few:
        log.warning("%s: %d of %d classes have fewer than %d examples", calibrator, few, int(possible.sum()), FEW)
