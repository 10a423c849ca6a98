"""How far confidence is from accuracy, without what chance adds to the absolute value."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.equal_mass_calibration_error import EqualMassCalibrationError


class DebiasedCalibrationError(EqualMassCalibrationError):
    """Debiased calibration error (dECE) of the predicted class, of bins of equal mass; about 0 where calibrated.

    Kumar, Liang, Ma: Verified Uncertainty Calibration, NeurIPS 2019, arXiv 1909.10155, in their code: a bin's gap is
    doubled, less what it would be on average, were this gap the true one and accuracy normal about it. At most 1, and
    below 0 by chance: average and compare these values as they are. The bins are those of EqualMassCalibrationError.

    Departures from the authors' code: the mean over normal accuracies is its integral, in closed form, where theirs
    draws 1,000 of them.

    Args:
        num_bins: number of bins, in 1…10,000; with fewer examples each has a bin of its own.
        options: of torchmetrics.Metric.

    Raises:
        UserError: num_bins is another number.
    """

    def result(self) -> Float[Tensor, ""]:
        """The error over all examples so far."""
        return self.binned().debiased_error
