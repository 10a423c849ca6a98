"""One non-decreasing map for the probabilities of all classes, with no form given."""

import logging
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, inf

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out, keep_prediction
from poise_recipes.calibration.isotonic import interpolated, isotonic_map
from poise_recipes.calibration.one_vs_rest import log_probabilities, mixed_with_uniform, normalised, occurred

log = logging.getLogger("poise")

SLOPE = 1e-9  # of what is added to the map, so that it increases where isotonic regression is flat
TINY = 1e-300  # so that the logarithm of a masked class has a gradient


class IsotonicPooled(Calibrator):
    """Maps every probability by the isotonic regression of all classes together, and normalises rows.

    Source: Zhang, Kailkhura, Han, Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in
    Deep Learning, 2020, arXiv 2003.07329, there IRM. Logits [B, C] go in, log-probabilities [B, C] come out, for any C.
    N·C pairs of probability and whether that class is the label make one map g; g(p) + 1e-9 p, which increases, is
    divided by its sum over the row. The predicted class never changes, nor does the order of a row's classes, but for
    ties that rounding makes. What is learnt is shared, so a class may have few examples.

    Departures from the authors' code: rows are normalised, which theirs leaves out. 1/(N + 1) of the uniform
    distribution is mixed in, N the size of the calibration split, for a map that is 0 would make one surprise
    almost impossible. Masked classes are left out.
    """

    paper = (
        "Zhang et al., Mix-n-Match: Ensemble and Compositional Methods for Uncertainty Calibration in Deep Learning, "
        "2020, arXiv 2003.07329"
    )
    any_classes: ClassVar[bool] = True
    knot: Tensor
    share: Tensor
    examples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("knot", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("share", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("examples", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "IsotonicPooled":
        """Find the map."""
        check_held_out(held_out)
        seen = held_out.logits != -inf
        self.knot, self.share = isotonic_map(log_probabilities(held_out.logits).exp()[seen], occurred(held_out)[seen])
        self.examples.fill_(len(held_out.label))
        log.info("isotonic_pooled: %d knots from %d examples", len(self.knot), len(held_out.label))
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        log_p = log_probabilities(logits)
        if not self.examples:
            return keep_prediction(log_p.to(logits.dtype), logits)
        probability = log_p.exp()
        share = (interpolated(probability, self.knot, self.share) + SLOPE * probability).clamp(min=TINY)
        calibrated = mixed_with_uniform(normalised(share.log(), log_p), log_p, int(self.examples))
        return keep_prediction(calibrated.to(logits.dtype), logits)
