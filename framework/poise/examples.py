"""Examples that nothing can be worked out from, said by the first of them."""

from jaxtyping import Bool
from torch import Tensor

from poise.errors import UserError


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
