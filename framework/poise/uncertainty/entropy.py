"""The entropy of the predicted distribution."""

import torch
from jaxtyping import Float
from torch import Tensor

from poise.examples import check_logits


def entropy(logits: Float[Tensor, "N C"]) -> Float[Tensor, " N"]:
    """Shannon entropy of `softmax(logits)`, in nats, in 0…log C, float64. It hangs on the temperature.

    Raises:
        UserError: logits are no floats [N, C].
    """
    check_logits(logits, "entropy")
    return torch.special.entr(logits.double().softmax(1)).sum(1)
