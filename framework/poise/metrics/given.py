"""What a metric is given, looked at in one place: most of what is wrong with it would pass for a number."""

from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from poise.data.checks import check_tensor
from poise.errors import UserError

NO_PROBABILITIES = "logits that make no probabilities: NaN, inf, or -inf for every class"


def as_examples(logits: Any, labels: Any) -> tuple[Float[Tensor, "B C"], Int[Tensor, " B"]]:
    """Logits and labels as metrics take them, by what can be told without looking at values.

    Args:
        logits: floats [B, C] of one class or more.
        labels: integers of any type, or truth values, [B].

    Raises:
        UserError: one is no tensor, such as an array of NumPy, has another shape or type; or they are on two devices.
    """
    check_tensor(logits, "logits")
    check_tensor(labels, "labels")
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.shape[1]:
        raise UserError(
            f"A metric takes logits [B, C] and labels [B], not {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    if not logits.is_floating_point() or labels.is_floating_point() or labels.is_complex():
        raise UserError(f"A metric takes float logits and integer labels, not {logits.dtype} and {labels.dtype}.")
    if logits.device != labels.device:
        raise UserError(
            f"The logits are on {logits.device} and the labels on {labels.device}: move them to one device."
        )
    return logits, labels.long()


def outside(labels: Int[Tensor, " B"], classes: int) -> Bool[Tensor, " B"]:
    """Which labels are no classes."""
    return (labels < 0) | (labels >= classes)


def impossible(logits: Float[Tensor, "B C"]) -> Bool[Tensor, " B"]:
    """Of which examples the softmax is NaN."""
    return ~logits.amax(-1).isfinite()
