"""One non-decreasing map for each class, with no form given."""

import logging
from collections.abc import Iterator
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, inf

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_classes, check_held_out
from poise_recipes.calibration.one_vs_rest import (
    log_probabilities,
    mixed_with_uniform,
    normalised,
    occurred,
    tell_of_few,
)

log = logging.getLogger("poise")


class Isotonic(Calibrator):
    """Maps each class's probability by its isotonic regression, the best non-decreasing map, and normalises rows.

    Source: Zadrozny, Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, 2002,
    doi 10.1145/775047.775151. Logits [B, C] go in, log-probabilities [B, C] come out. Of class k the pairs of
    probability and whether k is the label are fitted by least squares, equal probabilities as one; between the
    knots that are kept the map is linear, outside them constant. Predictions may change. The map of a class with
    few examples follows their chance: below twenty a warning is logged; `isotonic_pooled` has one map for all.

    Departures from the authors' code: they published none. Blocks that are all wrong or all right map to 0 and 1,
    which makes one surprise infinitely unlikely: so 1/(N + 1) of the uniform distribution is mixed in, N the size
    of the calibration split. A row whose maps are all 0 stays uncalibrated before that. Masked classes are left
    out.
    """

    paper = (
        "Zadrozny and Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates, 2002, "
        "doi 10.1145/775047.775151"
    )
    keeps_prediction: ClassVar[bool] = False
    knot: Tensor
    share: Tensor
    knots: Tensor
    examples: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("knot", torch.zeros(0, dtype=torch.float64))  # of all classes, one after the other
        self.register_buffer("share", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("knots", torch.zeros(0, dtype=torch.int64))  # of each class
        self.register_buffer("examples", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "Isotonic":
        """Find each class's map; logs a warning where classes have few examples."""
        check_held_out(held_out)
        tell_of_few("isotonic", held_out)
        probability, truth = log_probabilities(held_out.logits).exp(), occurred(held_out)
        possible, maps = held_out.logits != -inf, []
        for k, seen in enumerate(possible.t()):
            maps.append(isotonic_map(probability[seen, k], truth[seen, k]))
            self.advance(1 / possible.shape[1])
        self.knot = torch.cat([knot for knot, _ in maps])
        self.share = torch.cat([share for _, share in maps])
        self.knots = self.knots.new_tensor([len(knot) for knot, _ in maps])
        self.examples.fill_(len(held_out.label))
        log.info("isotonic: %d knots from %d examples", len(self.knot), len(held_out.label))
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        log_p = log_probabilities(logits)
        if not self.examples:
            return log_p.to(logits.dtype)
        check_classes("isotonic", len(self.knots), logits)
        columns = zip(log_p.exp().t(), self._maps(), strict=True)
        share = torch.stack([interpolated(column, knot, share) for column, (knot, share) in columns], 1)
        return mixed_with_uniform(normalised(share.log(), log_p), log_p, int(self.examples)).to(logits.dtype)

    def _maps(self) -> Iterator[tuple[Tensor, Tensor]]:
        knots = self.knots.tolist()
        return zip(self.knot.split(knots), self.share.split(knots), strict=True)


def isotonic_map(
    probability: Float[Tensor, " M"], truth: Bool[Tensor, " M"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """Knots of the non-decreasing map with the least squared error, and its values there; of no pairs the identity."""
    from sklearn.isotonic import IsotonicRegression

    if not len(probability):
        return probability.new_tensor([0.0, 1.0]), probability.new_tensor([0.0, 1.0])
    found = IsotonicRegression(y_min=0, y_max=1).fit(probability.cpu().numpy(), truth.double().cpu().numpy())
    knot, share = (torch.from_numpy(values).to(probability) for values in (found.X_thresholds_, found.y_thresholds_))
    return knot, share


def interpolated(
    x: Float[Tensor, "..."], knot: Float[Tensor, " K"], value: Float[Tensor, " K"]
) -> Float[Tensor, "..."]:
    """The piecewise linear function through increasing knots, constant outside them, at x."""
    if len(knot) == 1:
        return value.expand_as(x)
    right = torch.searchsorted(knot, x.contiguous()).clamp(1, len(knot) - 1)
    below, above = knot[right - 1], knot[right]
    along = ((x - below) / (above - below)).clamp(0, 1)
    return torch.lerp(value[right - 1], value[right], along)
