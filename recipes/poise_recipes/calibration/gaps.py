"""What order-preserving maps share that see a whole row: a factor for each gap between its sorted logits."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from torch import Tensor, inf

from poise import registry
from poise.batch import Predictions
from poise.calibrator import Calibrator, check_classes, check_held_out, keep_prediction
from poise_recipes.calibration.affine import HIGHEST, LOWEST
from poise_recipes.calibration.h.rows import block_rows
from poise_recipes.calibration.small_network import FLATTEST, Network, answers, searched, start
from poise_recipes.calibration.temperature_scaling import solve_temperature

log = logging.getLogger("poise")

REACH = 40.0  # nats below its row's highest logit from which the network sees all alike
MIDDLE = 1.5  # log(1 + u) of what is likely lies about as far above this as below
NEVER = -1e300  # of a masked class, where gradients pass; times any factor still finite
UNIT = 0.5413248546129181  # log(e - 1), whose softplus is 1
LAYERS = ("first", "first_bias", "second", "second_bias", "last", "last_bias")


@dataclass(frozen=True)
class Ranked:
    """Rows of logits over a temperature, without their row's highest, and the same sorted.

    Args:
        below: of each class, 0 or less, finite for masked classes too.
        falling: the same from the highest to the lowest.
        rank: where in `falling` each class is; of equal ones the first class is first.
    """

    below: Float[Tensor, "N C"]
    falling: Float[Tensor, "N C"]
    rank: Int[Tensor, "N C"]

    @classmethod
    def of(cls, logits: Float[Tensor, "N C"], temperature: Float[Tensor, ""]) -> "Ranked":
        """Sorts rows of logits, which are in double precision."""
        below = ((logits - logits.amax(1, keepdim=True)) / temperature).clamp(min=NEVER)
        falling, order = below.sort(dim=1, descending=True, stable=True)
        return cls(below, falling, order.argsort(1))


class GapScaling(Calibrator):
    """Multiplies each gap between neighbours among a row's sorted logits by a factor above 0 that the row sets.

    A class that derives from it says what the network sees that gives the factors. Factors above 0 keep the order, and
    a gap of 0 stays one, so ties stay; a masked class stays so, and the network sees it as one that is hardly possible.
    """

    temperature: Tensor
    first: Tensor
    converged: Tensor

    def __init__(self, hidden: Annotated[int, Ge(1), Le(1000)] = 10, strength: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.hidden = hidden
        self.strength = strength
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))
        for layer in LAYERS:
            self.register_buffer(layer, torch.zeros(0, dtype=torch.float64))
        self.register_buffer("converged", torch.zeros((), dtype=torch.bool))

    def seen(self, ranked: Ranked) -> Float[Tensor, "N C"]:
        """Which logits of a row are the network's C inputs."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to see.")

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "GapScaling":
        """Find the network; logs a warning where the search did not end by itself."""
        check_held_out(held_out)
        logits, label = held_out.logits.detach().double(), held_out.label.long()
        size, classes = logits.shape
        temperature, _ = solve_temperature(logits, label, LOWEST, HIGHEST)
        self.temperature.fill_(temperature)
        rows = block_rows(logits)
        blocks = [self._prepared(*each) for each in zip(logits.split(rows), label.split(rows), strict=True)]

        def objective(network: Network) -> Iterator[Tensor]:
            for inputs, falling, own in blocks:
                yield F.cross_entropy(heights(network, inputs, falling), own, reduction="sum") / size

        begun = start(logits.device, self.hidden, classes, classes - 1)
        network, converged = searched(begun, objective, self.strength * classes / size, self.advance)
        for layer, weight in zip(LAYERS, network, strict=True):
            setattr(self, layer, weight)
        self.converged.fill_(converged)
        name = registry.name_of(self)
        log.info("%s: %d hidden units twice, %d examples", name, self.hidden, size)
        if not converged:
            log.warning("%s: the search was ended before its optimum", name)
        return self

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`."""
        if not self.first.numel():
            return logits.double().log_softmax(-1).to(logits.dtype)
        check_classes(registry.name_of(self), self.first.shape[1], logits)
        return torch.cat([self._of_block(part) for part in logits.split(block_rows(logits))])

    def _of_block(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        ranked = Ranked.of(logits.double(), self.temperature)
        network = [self.get_buffer(layer) for layer in LAYERS]
        mapped = heights(network, depths(self.seen(ranked)), ranked.falling).gather(1, ranked.rank)
        calibrated = mapped.masked_fill(logits == -inf, -inf).log_softmax(-1).to(logits.dtype)
        return keep_prediction(calibrated, logits)

    def _prepared(self, logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> tuple[Tensor, Tensor, Tensor]:
        """What the network sees, the sorted logits, and which of them is the label's: what no step changes."""
        ranked = Ranked.of(logits, self.temperature)
        return depths(self.seen(ranked)), ranked.falling, ranked.rank.gather(1, label[:, None])[:, 0]


def depths(below: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """How far classes are below their row's highest, as a network sees it: about as far from 0 up as down."""
    return (-below).clamp(max=REACH).log1p() - MIDDLE


def heights(network: Network, inputs: Float[Tensor, "N C"], falling: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
    """The sorted logits with their gaps multiplied, the highest 0; a network that answers 0 changes none."""
    factors = F.softplus(answers(network, inputs) + UNIT) + FLATTEST
    gaps = falling[:, :-1] - falling[:, 1:]
    return F.pad(-(gaps * factors).cumsum(1), (1, 0))
