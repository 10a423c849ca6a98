"""A factor for each gap between a row's sorted logits, which a small network finds in the row as it is."""

from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.gaps import GapScaling, Ranked


class OrderPreserving(GapScaling):
    """Lets each row, by the logits of its classes, say how far apart they are to be; the order of classes stays.

    Source: Rahimi, Shaban, Cheng, Hartley, Boots, Intra Order-preserving Functions for Calibration of Multi-Class
    Neural Networks, 2020, arXiv 2003.06820: its general family (OP). Logits [B, C] go in, log-probabilities [B, C] come
    out. Neither the predicted class nor the order of a row's classes ever changes, ties included; what is done to a row
    depends on which classes they are. The gap between the k-th and the next of a row's sorted logits is multiplied by
    softplus of the k-th answer of a network that sees the row as it is, with two hidden layers of rectified units. What
    else it is, how it is fitted and how that departs from the authors' code is as in `order_invariant`.

    Departures from the authors' code: those of `order_invariant`.

    Args:
        hidden: units of each hidden layer. The authors choose among 2 to 150.
        strength: of what holds θ, in units of C/N.
    """

    paper = (
        "Rahimi et al., Intra Order-preserving Functions for Calibration of Multi-Class Neural Networks, 2020, "
        "arXiv 2003.06820"
    )

    def seen(self, ranked: Ranked) -> Float[Tensor, "N C"]:
        """Logits in the order of the classes."""
        return ranked.below
