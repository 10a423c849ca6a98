"""How much a class of n examples is worth: the effective number of samples."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def inverse_effective_number(counts: Int[Tensor, " C"], beta: float) -> Float[Tensor, " C"]:
    """1/E_n = (1-β)/(1-βⁿ) of each class [C], in float64; 0 for a class without examples.

    β = 0 gives every class 1, and β = 1, as the limit, 1/n.

    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019, arXiv 1901.05555,
    proposition 1.

    Args:
        counts: n >= 0, examples of each class.
        beta: β in [0, 1].
    """
    n = counts.double()
    effective = n if beta == 1 else -torch.expm1(torch.xlogy(n, beta)) / (1 - beta)
    return torch.where(counts > 0, 1 / effective, 0.0)
