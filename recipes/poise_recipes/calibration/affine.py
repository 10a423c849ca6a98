"""What calibrators share that are one affine map of all rows."""

import logging

import torch
from jaxtyping import Float
from torch import Tensor, inf

from poise import registry
from poise.batch import Predictions
from poise.calibrator import Calibrator, check_classes, check_held_out
from poise_recipes.calibration.logistic import Design, solve
from poise_recipes.calibration.temperature_scaling import solve_temperature

log = logging.getLogger("poise")

LOWEST, HIGHEST = 0.01, 100.0  # of the temperature from which the search starts


class AffineScaling(Calibrator):
    """Adds to temperature scaling what lowers the penalised negative log-likelihood most, class by class.

    A class that derives from it says what the map is applied to, how its coefficients make logits, and what they
    cost. Coefficients [R, C] are those of `logistic.Design`. A masked class stays so, adds nothing to the others, and
    does not count where costs grow with the number of classes.
    """

    coefficients: Tensor
    converged: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("coefficients", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("converged", torch.zeros((), dtype=torch.bool))

    def inputs(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """What the map is applied to, finite for masked classes too."""
        raise NotImplementedError(f"{type(self).__name__} has no inputs.")

    def design(self, inputs: Float[Tensor, "N C"]) -> Design:
        """How coefficients make logits of inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no design.")

    def ridge(self, start: Float[Tensor, "R C"], temperature: float, classes: float) -> Float[Tensor, "R C"]:
        """What the square of each coefficient costs, counted from `start`, which divides by the temperature.

        Costs are those of a sum over examples, not of their mean.
        """
        raise NotImplementedError(f"{type(self).__name__} has no ridge.")

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "AffineScaling":
        """Find the coefficients; logs a warning where they are not the optimum."""
        check_held_out(held_out)
        logits, label = held_out.logits.detach().double(), held_out.label
        inputs, masked = self.inputs(logits), logits == -inf
        temperature, _ = solve_temperature(inputs.masked_fill(masked, -inf), label, LOWEST, HIGHEST)
        design = self.design(inputs)
        start = design.start(1 / temperature)
        base = design.logits(start).masked_fill(masked, -inf)
        ridge = self.ridge(start, temperature, float((~masked).any(0).sum())) / len(label)
        delta, converged = solve(design, base, label, ridge, self.advance)
        self.coefficients = start + delta
        self.converged.fill_(converged)
        name = registry.name_of(self)
        log.info("%s: %d coefficients from %d examples", name, self.coefficients.numel(), len(label))
        if not converged:
            log.warning("%s: no optimum was found; separable classes have none without a penalty", name)
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        if not self.coefficients.numel():
            return logits.double().log_softmax(-1).to(logits.dtype)
        check_classes(registry.name_of(self), self.coefficients.shape[1], logits)
        scaled = self.design(self.inputs(logits.double())).logits(self.coefficients)
        return scaled.masked_fill(logits == -inf, -inf).log_softmax(-1).to(logits.dtype)


def centred(logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """Logits without their row's mean, which the softmax does not see; 0 for masked classes, which count in no mean."""
    masked = logits == -inf
    finite = logits.masked_fill(masked, 0.0)
    mean = finite.sum(1, keepdim=True) / (~masked).sum(1, keepdim=True).clamp(min=1)
    return (finite - mean).masked_fill(masked, 0.0)
