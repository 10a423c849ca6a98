"""The free energy of logits."""

from jaxtyping import Float
from torch import Tensor

from poise.examples import check_logits
from poise.number_checks import check_above_zero


def energy(logits: Float[Tensor, "N C"], temperature: float = 1.0) -> Float[Tensor, " N"]:
    """Free energy, `-T · log Σ_k exp(z_k / T)` of logits z, float64: it falls by what is added to all logits.

    Logits have to be the network's own: after a log-softmax this is 0 for every example.

    Source: Liu et al., Energy-based Out-of-distribution Detection, 2020, arXiv 2010.03759.

    Args:
        logits: of the network.
        temperature: T > 0; the published one is 1.

    Raises:
        UserError: logits are no floats [N, C], or the temperature is no number > 0.
    """
    check_logits(logits, "energy")
    check_above_zero("energy", temperature=temperature)
    return -temperature * (logits.double() / temperature).logsumexp(1)
