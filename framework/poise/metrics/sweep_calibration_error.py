"""How far confidence is from accuracy, in as many bins as the examples bear."""

from jaxtyping import Float
from torch import Tensor

from poise.metrics.bins import Bins
from poise.metrics.equal_mass_calibration_error import equal_mass_bins
from poise.metrics.levels import Levels
from poise.metrics.top_label import SortedMetric

_MOST = 1000  # bins
_ROUNDING = 1e-9  # by which accuracies fall that are the same


class SweepCalibrationError(SortedMetric):
    """Sweep calibration error of the predicted class: in the most bins whose accuracy rises with confidence; in 0…1.

    Roelofs, Cain, Shlens, Mozer: Mitigating Bias in Calibration Error Estimation, AISTATS 2022, arXiv 2012.08668, their
    ECE_sweep with bins of equally many examples and absolute gaps. Of 1, 2, 3, … bins the last are taken before
    accuracy falls from one bin to the next for the first time, so nobody has to choose their number. There are fewer
    bins than examples.

    Departures from the authors' code: where examples of equal confidence fall into two bins, each counts with the share
    of them that is predicted right, as in EqualMassCalibrationError. No more than 1,000 bins are tried, which only
    examples nearly all of which are predicted right, or wrong, bear.

    Args:
        options: of torchmetrics.Metric.
    """

    def measured(self, levels: Levels) -> Float[Tensor, ""]:
        """The error of the examples at these levels."""
        return swept_bins(levels).error


def swept_bins(levels: Levels) -> Bins:
    """The bins of equally many of the examples at these levels that are the last before accuracy falls."""
    bins = equal_mass_bins(levels, 1)
    for number in range(2, min(int(levels.size), _MOST + 1)):
        finer = equal_mass_bins(levels, number)
        if (finer.accuracy.diff() < -_ROUNDING).any():
            break
        bins = finer
    return bins
