"""One increasing function, which a small network shapes, for the logits of all classes."""

import logging
from collections.abc import Iterator
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor, inf

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out, keep_prediction
from poise_recipes.calibration.affine import HIGHEST, LOWEST, centred
from poise_recipes.calibration.h.rows import block_rows
from poise_recipes.calibration.small_network import FLATTEST, Network, answers, searched, start
from poise_recipes.calibration.temperature_scaling import solve_temperature

log = logging.getLogger("poise")

CELLS = 1000  # between the lowest and the highest logit of the split, each with one slope
REACH = 40.0  # nats, times T, below its row's highest logit from which one counts as nothing
MARGIN = 1.0  # nat, times T, to either side
NARROWEST = 1e-8  # spread of logits


class IntraOrderPreserving(Calibrator):
    """Gives every logit to one increasing function g: softmax(g(z₁), …, g(z_C)), so the order of classes stays.

    Source: Rahimi, Shaban, Cheng, Hartley, Boots, Intra Order-preserving Functions for Calibration of Multi-Class
    Neural Networks, 2020, arXiv 2003.06820: its diagonal family (DIAG), which had the best results there. Logits [B, C]
    go in, log-probabilities [B, C] come out, for any C. Neither the predicted class nor the order of a row's classes
    ever changes, and classes are alike. The slope of g is ELU(f) + 1 of a network f with one input and two hidden
    layers of rectified units; its weights θ minimise the mean negative log-likelihood of the held-out split plus
    strength/N · |θ - θ₀|² for N examples, by L-BFGS in float64. With θ₀, where it starts, g is temperature scaling, so
    on that split labels are at least as likely as under that. The problem is not convex: what is found is a local
    optimum, the same in every fit.

    Departures from the authors' code: g is integrated once, on a grid of 1,000 cells over the split's logits, and is
    straight beyond it, where theirs evaluates the network 51 times for each logit; what is kept is g on that grid. z
    is without its row's mean, so that a number added to a row changes nothing, and the network sees it in units of
    its spread. θ₀ is random there, and nothing holds θ near it, so few examples are fitted to their noise; they
    choose the size of the network, and when to stop, by five folds, and take the mean of five maps. The paper's two
    other families are `order_invariant` and `order_preserving`.

    Args:
        hidden: units of each hidden layer. The authors choose among 1 to 50.
        strength: of what holds θ; 0 as published.
    """

    paper = (
        "Rahimi et al., Intra Order-preserving Functions for Calibration of Multi-Class Neural Networks, 2020, "
        "arXiv 2003.06820"
    )
    any_classes: ClassVar[bool] = True
    knots: Tensor
    heights: Tensor
    converged: Tensor

    def __init__(self, hidden: Annotated[int, Ge(1), Le(1000)] = 10, strength: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.strength = strength
        self.register_buffer("knots", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("heights", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("converged", torch.zeros((), dtype=torch.bool))

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "IntraOrderPreserving":
        """Find g; logs a warning where the search did not end by itself."""
        check_held_out(held_out)
        logits, label = held_out.logits.detach().double(), held_out.label.long()
        temperature, _ = solve_temperature(logits, label, LOWEST, HIGHEST)
        scaled, masked = centred(logits) / temperature, logits == -inf
        seen = scaled[logits >= logits.amax(1, keepdim=True) - REACH * temperature]
        ends = float(seen.min()) - MARGIN, float(seen.max()) + MARGIN
        knots = torch.linspace(*ends, CELLS + 1, dtype=torch.float64, device=logits.device)
        inputs = (knots[1:] + knots[:-1])[:, None] / (2 * seen.std().clamp(min=NARROWEST))
        blocks = [each.split(block_rows(logits)) for each in (*placed(scaled, knots), masked, label)]

        def objective(network: Network) -> Iterator[Tensor]:
            for cell, past, never, own in zip(*blocks, strict=True):
                slope = slopes(network, inputs)
                mapped = along(heights_of(slope, knots), slope, cell, past).masked_fill(never, -inf)
                yield F.cross_entropy(mapped, own, reduction="sum") / len(label)

        network, converged = searched(
            start(logits.device, self.hidden), objective, self.strength / len(label), self.advance
        )
        self.knots, self.heights = knots * temperature, heights_of(slopes(network, inputs), knots)
        self.converged.fill_(converged)
        log.info("intra_order_preserving: %d hidden units twice, %d examples", self.hidden, len(label))
        if not converged:
            log.warning("intra_order_preserving: the search was ended before its optimum")
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        return torch.cat([self._of_block(part) for part in logits.split(block_rows(logits))])

    def _of_block(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        mapped = logits.double()
        if self.knots.numel():
            cell, past = placed(centred(mapped), self.knots)
            mapped = along(self.heights, self.heights.diff() / self.knots.diff(), cell, past)
        calibrated = mapped.masked_fill(logits == -inf, -inf).log_softmax(-1).to(logits.dtype)
        return keep_prediction(calibrated, logits)


def slopes(network: Network, inputs: Float[Tensor, "S 1"]) -> Float[Tensor, " S"]:
    """Slopes of g, all of them above 0."""
    return F.elu(answers(network, inputs))[:, 0] + 1 + FLATTEST


def heights_of(slope: Float[Tensor, " S"], knots: Float[Tensor, " K"]) -> Float[Tensor, " K"]:
    """The function with these slopes between knots, which is 0 at the first."""
    return F.pad((slope * knots.diff()).cumsum(0), (1, 0))


def placed(values: Float[Tensor, "N C"], knots: Float[Tensor, " K"]) -> tuple[Int[Tensor, "N C"], Float[Tensor, "N C"]]:
    """The cell of each value, the first or the last where it is beyond them, and how far it is past its beginning."""
    cell = torch.bucketize(values.detach(), knots[1:-1], right=True)
    return cell, values - knots[cell]


def along(
    heights: Float[Tensor, " K"], slope: Float[Tensor, " S"], cell: Int[Tensor, "N C"], past: Float[Tensor, "N C"]
) -> Float[Tensor, "N C"]:
    """The function at the places that `placed` gives."""
    return heights[cell] + slope[cell] * past
