"""Losses of each example, on logits and soft targets. Nothing here averages over the batch."""

from jaxtyping import Float
from torch import Tensor


def soft_cross_entropy(logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """Cross-entropy of each example, `-sum_k target_k log softmax(logits)_k`, in nats.

    A class that is masked (its logit is -inf) and has no share in the target adds nothing.
    """
    log_probabilities = logits.log_softmax(-1)
    return -(target * log_probabilities.masked_fill(target == 0, 0.0)).sum(-1)


def kl_divergence(p_logits: Float[Tensor, "B C"], q_logits: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """KL(softmax(p_logits) ‖ softmax(q_logits)) of each example, in nats, >= 0; gradients flow into both.

    A class of probability zero under p adds nothing, even where it has none under q.
    """
    p_log, q_log = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
    p = p_log.exp()
    return (p * (p_log - q_log).masked_fill(p == 0, 0.0)).sum(-1)
