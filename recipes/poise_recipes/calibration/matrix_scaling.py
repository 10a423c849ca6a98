"""A matrix and an intercept for all logits."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.affine import AffineScaling, centred
from poise_recipes.calibration.logistic import Full


class MatrixScaling(AffineScaling):
    """Lets the logits of all classes speak for each class: softmax(W z + c).

    Source: Berta et al., Structured Matrix Scaling for Multi-Class Calibration, 2025, arXiv 2511.03685; without a
    penalty: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599,
    section 4.2. Logits [B, C] go in, log-probabilities [B, C] come out. The predicted class may change. W [C, C] and c
    [C] minimise the mean negative log-likelihood plus strength · C/N · (|diag(TW) - 1|² + (C - 1) |off-diagonal of
    TW|² + |c|²), with T of temperature scaling, N examples and C classes: a convex problem, solved to its optimum in
    float64. So the penalty grows with the coefficients that there are, falls with the examples, and leaves
    temperature scaling where there are few; nothing has to be chosen by cross-validation, which would take dozens
    of fits. A pass over the data costs N · C², and a fit some dozens of them.

    Departures from the authors' code: z is without its row's mean, so that a number added to a row changes
    nothing; a class that is masked adds nothing. Berta et al. mix 1/(N + 1) of the uniform distribution into the
    probabilities whose logarithms they map. Guo et al. have no penalty (strength=0), which fits noise where classes
    are many.

    Args:
        strength: of the penalty. 1 is that of Berta et al.; 0 is none, as Guo et al. have it.
    """

    paper = "Berta et al., Structured Matrix Scaling for Multi-Class Calibration, 2025, arXiv 2511.03685"
    keeps_prediction: ClassVar[bool] = False

    def __init__(self, strength: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def inputs(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Logits without their row's mean."""
        return centred(logits)

    def design(self, inputs: Float[Tensor, "N C"]) -> Full:
        """A factor for each pair of classes."""
        return Full(inputs)

    def ridge(self, start: Float[Tensor, "R C"], temperature: float, classes: float) -> Float[Tensor, "R C"]:
        """More for what other classes add; factors in units of 1/T."""
        cost = torch.full_like(start, self.strength * classes * (classes - 1))
        cost.fill_diagonal_(self.strength * classes)
        cost[:-1] *= temperature**2
        cost[-1] = self.strength * classes
        return cost
