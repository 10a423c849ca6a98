"""The frequency of each class among examples of similar probability."""

import logging
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor, inf

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_classes, check_held_out
from poise.metrics.bins import bin_of
from poise_recipes.calibration.one_vs_rest import log_probabilities, normalised, occurred, tell_of_few

log = logging.getLogger("poise")


class HistogramBinning(Calibrator):
    """Maps each class's probability to the frequency of the class in the bin it is in, and normalises rows.

    Source: Zadrozny, Elkan, Obtaining calibrated probability estimates from decision trees and naive Bayesian
    classifiers, 2001, for two classes; for many, each against the rest, Guo et al., On Calibration of Modern
    Neural Networks, 2017, arXiv 1706.04599, section 4. Logits [B, C] go in, log-probabilities [B, C] come out. A
    class's bins are equally wide: (m/M, (m+1)/M], and 0 is in the first. Predictions may change, and probabilities
    in one bin become equal, which costs likelihood where they say more than their bin. Below twenty examples of a
    class a warning is logged.

    Departures from the authors' code: they published none. A bin's value is (positives + midpoint) / (examples + 1),
    as if there were one more example, as likely as the bin's middle says: an empty bin gives its midpoint, and no
    class becomes impossible. Masked classes are left out.

    Args:
        bins: M of each class; 15 is usual.
    """

    paper = "Guo et al., On Calibration of Modern Neural Networks, 2017, arXiv 1706.04599"
    keeps_prediction: ClassVar[bool] = False
    share: Tensor

    def __init__(self, bins: Annotated[int, Ge(1), Le(10_000)] = 15) -> None:
        super().__init__()
        self.bins = bins
        self.register_buffer("share", torch.zeros(0, bins, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "HistogramBinning":
        """Count; logs a warning where classes have few examples."""
        check_held_out(held_out)
        tell_of_few("histogram_binning", held_out)
        bin_index = bin_of(log_probabilities(held_out.logits).exp(), self.bins)
        examples = counts(bin_index, held_out.logits != -inf, self.bins)
        positives = counts(bin_index, occurred(held_out), self.bins)
        middle = (torch.arange(self.bins, device=positives.device) + 0.5).double() / self.bins
        self.share = (positives + middle) / (examples + 1)
        log.info("histogram_binning: %d of %d bins have examples", int((examples > 0).sum()), examples.numel())
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        log_p = log_probabilities(logits)
        if not len(self.share):
            return log_p.to(logits.dtype)
        check_classes("histogram_binning", len(self.share), logits)
        share = self.share.gather(1, bin_of(log_p.exp(), self.bins).t()).t()
        return normalised(share.log(), log_p).to(logits.dtype)


def counts(bin_index: Int[Tensor, "N C"], counted: Bool[Tensor, "N C"], bins: int) -> Int[Tensor, "C M"]:
    """How many entries of each column that are counted are in each of its bins."""
    classes = bin_index.shape[1]
    of_class = bin_index + bins * torch.arange(classes, device=bin_index.device)
    return of_class[counted].bincount(minlength=classes * bins).view(classes, bins)
