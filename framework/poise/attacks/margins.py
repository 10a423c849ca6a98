"""Losses of an example that do not saturate, for attacks: differences of logits over a difference of logits."""

from jaxtyping import Float, Int
from torch import Tensor

from poise.attacks.attack import at_least_float32
from poise.errors import UserError

_SMALL = 1e-12  # where the logits that are compared are all the same


def dlr(logits: Float[Tensor, "B C"], y: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Difference of logits ratio, -(z_y - max over k≠y of z_k) / (z_(1) - z_(3)): above zero where y is not first.

    It is the same for logits that are shifted or scaled. Croce, Hein: Reliable evaluation of adversarial robustness
    with an ensemble of diverse parameter-free attacks, 2020, arXiv 2003.01690, equation 4.

    Args:
        logits: of at least three classes.
        y: true labels in 0…C-1.

    Raises:
        UserError: fewer classes.
    """
    _check_classes(logits, 3, "the DLR loss", "APGD with loss='ce' (apgd-ce)")
    logits = at_least_float32(logits)
    first, second, third = logits.topk(3).values.unbind(-1)
    own = _of_class(logits, y)
    other = second.where(logits.argmax(-1) == y, first)
    return (other - own) / (first - third + _SMALL)


def targeted_dlr(logits: Float[Tensor, "B C"], y: Int[Tensor, " B"], target: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Targeted difference of logits ratio, -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2).

    It is the same for logits that are shifted or scaled. Source: as of `dlr`, equation 5.

    Args:
        logits: of at least four classes.
        y: true labels in 0…C-1.
        target: the classes that are to come before them.

    Raises:
        UserError: fewer classes.
    """
    _check_classes(logits, 4, "the targeted DLR loss", "APGD with loss='dlr' (apgd-dlr), or 'ce' where there are two")
    logits = at_least_float32(logits)
    first, _, third, fourth = logits.topk(4).values.unbind(-1)
    return (_of_class(logits, target) - _of_class(logits, y)) / (first - (third + fourth) / 2 + _SMALL)


def _of_class(logits: Tensor, label: Tensor) -> Tensor:
    return logits.gather(-1, label[:, None])[:, 0]


def _check_classes(logits: Tensor, least: int, loss: str, instead: str) -> None:
    classes = logits.shape[-1]
    if classes < least:
        raise UserError(f"{loss} is defined for {least} classes or more, and the model has {classes}: use {instead}.")
