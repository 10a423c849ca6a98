"""The maximum softmax probability."""

from jaxtyping import Float
from torch import Tensor

from poise.examples import check_logits


def msp(logits: Float[Tensor, "N C"]) -> Float[Tensor, " N"]:
    """MSP, the maximum softmax probability, as minus its log, >= 0, float64.

    It ranks as minus the probability does, and still tells those apart that round to 1. It hangs on the temperature.

    Source: Hendrycks, Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples, 2017, arXiv
    1610.02136.

    Raises:
        UserError: logits are no floats [N, C].
    """
    check_logits(logits, "msp")
    return -logits.double().log_softmax(1).amax(1)
