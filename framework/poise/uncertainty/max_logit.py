"""The largest logit."""

from jaxtyping import Float
from torch import Tensor

from poise.examples import check_logits


def max_logit(logits: Float[Tensor, "N C"]) -> Float[Tensor, " N"]:
    """Minus the largest logit, float64.

    Logits have to be the network's own: after a log-softmax this is `msp`.

    Source: Hendrycks et al., Scaling Out-of-Distribution Detection for Real-World Settings, 2022, arXiv 1911.11132.

    Raises:
        UserError: logits are no floats [N, C].
    """
    check_logits(logits, "max_logit")
    return -logits.double().amax(1)
