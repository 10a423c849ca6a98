"""How sure predictions are, and how right."""

from jaxtyping import Float
from torch import Tensor


def top_label(
    logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """The confidence of each predicted class, with gradient, and how far it is right, a constant.

    Right is the predicted class's share of the target: 1 or 0 where targets are one-hot, in between where they are
    mixed, as if the label had been drawn from the target.
    """
    confidence, predicted = logits.softmax(1).max(1)
    return confidence, target.gather(1, predicted[:, None])[:, 0].to(confidence.dtype)
