"""Losses of each example, on logits and soft targets. Nothing here averages over the batch."""

from collections.abc import Callable

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
    return divergence_from(p_logits)(q_logits)


def divergence_from(p_logits: Float[Tensor, "B C"]) -> Callable[[Float[Tensor, "B C"]], Float[Tensor, " B"]]:
    """`kl_divergence` from one p to many q_logits [B, C]: what depends on p alone is computed once."""
    p_log = p_logits.log_softmax(-1)
    p = p_log.exp()
    impossible = p == 0
    return lambda q_logits: (p * (p_log - q_logits.log_softmax(-1)).masked_fill(impossible, 0.0)).sum(-1)
