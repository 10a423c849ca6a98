"""Examples that nothing can be worked out from, said by the first of them where values tell."""

from jaxtyping import Bool
from torch import Tensor

from poise.data.checks import check_tensor
from poise.errors import UserError


def check_logits(logits: object, of: str) -> None:
    """Raises UserError unless logits are a tensor of floats [N, C] of one class or more.

    Args:
        logits: as they came.
        of: who takes them, as in "A calibrator takes".
    """
    given = check_tensor(logits, "logits")
    if given.ndim != 2 or not given.shape[1] or not given.is_floating_point():
        raise UserError(f"{of} takes float logits [N, C], not {given.dtype} of shape {tuple(given.shape)}.")


def check_labels(label: object, rows: int, classes: int, of: str) -> None:
    """Raises UserError unless labels are a tensor of integers, one for each row, in 0…C-1.

    Args:
        label: as they came.
        rows: how many there have to be.
        classes: C.
        of: who takes them.
    """
    given = check_tensor(label, "label")
    if given.is_floating_point() or given.is_complex() or given.shape != (rows,):
        raise UserError(f"{of} takes integer labels [{rows}], not {given.dtype} of shape {tuple(given.shape)}.")
    refuse((given < 0) | (given >= classes), f"what {of} takes", f"has a label outside 0…{classes - 1}")


def refuse(wrong: Bool[Tensor, " N"], of: str, what: str) -> None:
    """Refuses examples where one is wrong.

    Args:
        wrong: which are.
        of: what they belong to, as in "Example 3 of the calibration split".
        what: is wrong with them, as in "has logits that are not finite".

    Raises:
        UserError: names the first, and says how many there are.
    """
    if wrong.any():
        first = int(wrong.byte().argmax())
        raise UserError(f"Example {first} of {of} {what} ({int(wrong.sum())} of {len(wrong)} do).")
