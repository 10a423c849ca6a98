"""A matrix and an intercept for all log-probabilities, with a penalty off the diagonal."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, inf

from poise_recipes.calibration.affine import AffineScaling
from poise_recipes.calibration.logistic import Full


class Dirichlet(AffineScaling):
    """Maps log-probabilities as if those of each class came from a Dirichlet distribution: softmax(W log p + c).

    Source: Kull, Perello-Nieto, Kängsepp, Silva Filho, Song, Flach, Beyond temperature scaling: Obtaining
    well-calibrated multiclass probabilities with Dirichlet calibration, 2019, arXiv 1910.12656. Logits [B, C] go in,
    log-probabilities [B, C] come out. The predicted class may change. W [C, C] and c [C] minimise the mean negative
    log-likelihood plus λ |off-diagonal of W|² + μ |c|² (ODIR) + ν |diag(TW) - 1|², with T of temperature scaling: a
    convex problem, solved to its optimum in float64. A pass over the data costs N · C², and a fit some dozens of them.

    Departures from the authors' code: λ and μ are no numbers from a grid, chosen by five-fold cross-validation, but
    off_diagonal · C(C - 1)/N and intercept · C/N for N examples and C classes, as structured matrix scaling (Berta
    et al., 2025, arXiv 2511.03685) has them: the grid takes hundreds of fits, and what is shipped is chosen by
    cross-validation anyway. One map is fitted to all examples in place of the mean of five folds'; the search
    starts at temperature scaling and ends at the optimum. Probabilities are not raised to 2.2e-16, for they never
    leave their logarithms. A class that is masked adds nothing. There ν is 0, with which a class loses its
    probability where the split has few examples of it or none.

    Args:
        off_diagonal: λ in units of C(C - 1)/N.
        intercept: μ in units of C/N.
        diagonal: ν in units of C/N; 0 as published.
    """

    paper = (
        "Kull et al., Beyond temperature scaling: Obtaining well-calibrated multiclass probabilities with Dirichlet "
        "calibration, 2019, arXiv 1910.12656"
    )
    keeps_prediction: ClassVar[bool] = False

    def __init__(
        self,
        off_diagonal: Annotated[float, Ge(0)] = 1.0,
        intercept: Annotated[float, Ge(0)] = 1.0,
        diagonal: Annotated[float, Ge(0)] = 0.1,
    ) -> None:
        super().__init__()
        self.off_diagonal = off_diagonal
        self.intercept = intercept
        self.diagonal = diagonal

    def inputs(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities."""
        return logits.log_softmax(-1).masked_fill(logits == -inf, 0.0)

    def design(self, inputs: Float[Tensor, "N C"]) -> Full:
        """A factor for each pair of classes."""
        return Full(inputs)

    def ridge(self, start: Float[Tensor, "R C"], temperature: float, classes: float) -> Float[Tensor, "R C"]:
        """ODIR, and some for the diagonal in units of 1/T."""
        cost = torch.full_like(start, self.off_diagonal * classes * (classes - 1))
        cost.fill_diagonal_(self.diagonal * classes * temperature**2)
        cost[-1] = self.intercept * classes
        return cost
