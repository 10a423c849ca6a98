"""A factor for each gap between a row's sorted logits, which a small network finds in the sorted row."""

from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.gaps import GapScaling, Ranked


class OrderInvariant(GapScaling):
    """Lets each row, by its sorted logits, say how far apart its classes are to be; the order of classes stays.

    Source: Rahimi, Shaban, Cheng, Hartley, Boots, Intra Order-preserving Functions for Calibration of Multi-Class
    Neural Networks, 2020, arXiv 2003.06820: its order-invariant family (OI). Logits [B, C] go in, log-probabilities
    [B, C] come out. Neither the predicted class nor the order of a row's classes ever changes, ties included, and
    classes are alike. The gap between the k-th and the next of a row's sorted logits is multiplied by softplus of the
    k-th answer of a network that sees the sorted row, with two hidden layers of rectified units. Its weights θ minimise
    the mean negative log-likelihood of the held-out split plus strength · C/N · |θ - θ₀|² for N examples, by L-BFGS in
    float64. With θ₀, where it starts, the map is temperature scaling, so on that split labels are at least as likely as
    under that. The problem is not convex: what is found is a local optimum, the same in every fit. A pass over the data
    costs N · C times the units, and a fit takes a dozen to two hundred of them.

    Departures from the authors' code: the network sees log(1 + u), where u is how far a logit over T is below its
    row's highest, at most 40, so a number added to a row changes nothing. θ₀ is random there, and weights are held
    near 0 by a decay of 5e-4; they take 15 to 50 epochs of Adam, choose the size of the network, and when to stop, by
    three or five folds, and take the mean of as many maps. The paper's two other families are `order_preserving`, whose
    classes are not alike, and `intra_order_preserving`, which has one function for all logits.

    Args:
        hidden: units of each hidden layer. The authors choose among 10 to 150.
        strength: of what holds θ, in units of C/N.
    """

    paper = (
        "Rahimi et al., Intra Order-preserving Functions for Calibration of Multi-Class Neural Networks, 2020, "
        "arXiv 2003.06820"
    )

    def seen(self, ranked: Ranked) -> Float[Tensor, "N C"]:
        """Logits in the order of their size."""
        return ranked.falling
