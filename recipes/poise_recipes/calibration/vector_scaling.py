"""A factor and an intercept for each class."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise_recipes.calibration.affine import AffineScaling, centred
from poise_recipes.calibration.logistic import Elementwise


class VectorScaling(AffineScaling):
    """Multiplies each class's logit by a factor of its own and adds an intercept: softmax(w ⊙ z + c).

    Source: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599,
    section 4.2; its penalty: Berta et al., Structured Matrix Scaling for Multi-Class Calibration, 2025,
    arXiv 2511.03685. Logits [B, C] go in, log-probabilities [B, C] come out. The predicted class may change. Factors
    and intercepts [C] minimise the mean negative log-likelihood plus strength · C/N · (|Tw - 1|² + |c|²), with T of
    temperature scaling, N examples and C classes: a convex problem, solved to its optimum in float64.

    Departures from the authors' code: z is without its row's mean, so that a number added to a row changes
    nothing; a class that is masked adds nothing. Guo et al. have no penalty (strength=0), and then a class without
    examples loses all its probability; Berta et al. mix 1/(N + 1) of the uniform distribution into the
    probabilities whose logarithms they scale.

    Args:
        strength: of the penalty. 1 is that of Berta et al.; 0 is none, as Guo et al. have it.
    """

    paper = "Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599"
    keeps_prediction: ClassVar[bool] = False

    def __init__(self, strength: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def inputs(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Logits without their row's mean."""
        return centred(logits)

    def design(self, inputs: Float[Tensor, "N C"]) -> Elementwise:
        """A factor for each class."""
        return Elementwise(inputs)

    def ridge(self, start: Float[Tensor, "R C"], temperature: float, classes: float) -> Float[Tensor, "R C"]:
        """The same for factors, in units of 1/T, and intercepts."""
        cost = torch.full_like(start, self.strength * classes)
        cost[0] *= temperature**2
        return cost
