"""A monotone map that makes average probability and frequency agree wherever probabilities are alike."""

import logging
import math
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float, Int
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out, keep_prediction
from poise.errors import UserError
from poise_recipes.calibration.h.descent import Descent
from poise_recipes.calibration.h.mixture import Mixture
from poise_recipes.calibration.h.monotone import Monotone
from poise_recipes.calibration.h.piecewise import Piecewise
from poise_recipes.calibration.h.search import FEWEST, FOLDS, Family, Found, Search
from poise_recipes.calibration.h.selectors import SELECTORS
from poise_recipes.calibration.temperature_scaling import all_right

log = logging.getLogger("poise")

MAPPINGS = ("mixture", "piecewise", "monotone")  # a fitted state has the number of its own


class HCalibration(Calibrator):
    """Finds a monotone map under which the mean of similar probabilities is the frequency of what they predict.

    Source: Huang, Cao, Xia, Chen, Wang, Zhang, h-calibration: Rethinking Classifier Recalibration with
    Probabilistic Error-Bounded Objective, 2025, arXiv 2506.17968. Logits [B, C] go in, log-probabilities
    [B, C] come out, for any C. With l the log-probabilities at the best single temperature the map is one of

    - `mixture`: log Σ_k w_k softmax(l / T_k);
    - `piecewise`: log softmax(-φ(-l)), φ increasing, made of straight segments of equal length up to 100 nats;
    - `monotone`: the same with φ the integral of a small network whose answers are above 0;
    - `automatic`: the one of these with the best selector on rows left out of its fit, three folds of the held-out
      split, which takes seven times as long.

    Neither the predicted class nor the order of a row's classes ever changes. `h_loss` has the objective; the step
    of the optimiser with the best selector on the held-out split is kept. It ends early where steps get no better.

    Departures from the authors' code: no class is left out in turn. That costs C times as much and changes nothing
    where classes are balanced; where they are not, rows without a class have it predicted too often and the others too
    rarely, and the optimum moves: of two calibrated classes, one with 79 % of the examples, 1/T would become 1.4. The
    authors leave none out on ImageNet either. The piecewise map is continuous and increasing, as it is meant to be;
    theirs jumps at the ends of its segments, downwards where slopes are above 1. A window holds at most a twentieth of
    the events, so that it stays narrow on small splits. k-means starts from quantiles in place of random points. The
    tolerance ε, there 1e-20, is 0 unless asked for. Weights, 1/T and slopes are positive as exponentials in place of
    absolute values. All maps start from the T of temperature scaling, which stands in for their standardised
    log-probabilities, and of a mixture one far hotter where the likelihood finds a share of noise among the labels, so
    that a fixed number of steps with a falling rate is enough where theirs stop by the calibration error. The network
    sees log(1 - l) and is integrated on a grid of tenths of a nat in place of 51 points for each number. They choose
    the mapping, of four sizes of each, on the rows that it was fitted to. Probabilities are in single precision in the
    search, as theirs are; sums over events are in double. Examples that are all predicted right have no best map, for
    the surer of them the better: there none is fitted, and nothing is changed.

    Args:
        mapping: which maps; 'automatic' chooses.
        selector: what a step, or a mapping, is chosen by: `proper_score` is the negative log-likelihood, `top_label`
            the debiased error of the confidence, `classwise` the mean over classes of the error of their probabilities.
        tolerance: ε, how far mean probability and frequency may be apart at no loss.
        window: events whose mean probability is compared with their frequency; 201 as published.
        steps: of Adam at most, each over the whole held-out split; up to 2000 as published.
        patience: steps in a row at which neither the selector nor the objective falls below all before, after which
            the search ends; 160 as published, of their calibration error.
        temperatures: K of a mixture; 16, 32, 64 or 128 as published.
        segments: of a piecewise map; 1, 10, 100 or 500 as published.
        hidden: width of the network's two layers; 2, 10, 20 or 50 as published.
        lowest: smallest T.
        highest: largest T. Logits that say nothing of the labels would take T to infinity, a share of labels that
            are noise one T.

    Raises:
        UserError: unless 0 < lowest < highest, both finite.
    """

    paper = (
        "Huang et al., h-calibration: Rethinking Classifier Recalibration with Probabilistic Error-Bounded "
        "Objective, 2025, arXiv 2506.17968"
    )
    default: ClassVar[bool] = True
    any_classes: ClassVar[bool] = True
    temperature: Tensor
    values: Tensor
    chosen: Tensor
    hit_bound: Tensor

    def __init__(
        self,
        mapping: Literal["mixture", "piecewise", "monotone", "automatic"] = "mixture",
        selector: Literal["proper_score", "top_label", "classwise"] = "proper_score",
        tolerance: Annotated[float, Ge(0), Lt(1)] = 0.0,
        window: Annotated[int, Ge(1)] = 201,
        steps: Annotated[int, Ge(1)] = 100,
        patience: Annotated[int, Ge(1)] = 25,
        temperatures: Annotated[int, Ge(2), Le(1000)] = 16,
        segments: Annotated[int, Ge(1), Le(10_000)] = 100,
        hidden: Annotated[int, Ge(1), Le(1000)] = 10,
        lowest: Annotated[float, Gt(0)] = 0.01,
        highest: Annotated[float, Gt(0)] = 100.0,
    ) -> None:
        super().__init__()
        if not 0 < lowest < highest < math.inf:
            raise UserError(f"lowest={lowest} and highest={highest} of h_calibration: 0 < lowest < highest.")
        self.mapping = mapping
        self.selector = selector
        self.tolerance = tolerance
        self.window = window
        self.steps = steps
        self.patience = patience
        self.temperatures = temperatures
        self.segments = segments
        self.hidden = hidden
        self.lowest = lowest
        self.highest = highest
        self.register_buffer("temperature", torch.ones((), dtype=torch.float64))
        self.register_buffer("values", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("chosen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("hit_bound", torch.zeros((), dtype=torch.bool))

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "HCalibration":
        """Find a map; logs which, and a warning where a temperature is one of the bounds or examples tell of none."""
        check_held_out(held_out)
        logits, label = held_out.logits.detach(), held_out.label.long()
        if all_right(logits, label):
            self._forget()
        else:
            self._search(logits, label)
            log.info("h_calibration: %s from %d examples", self.settled, len(label))
        if self.doubt:
            log.warning("h_calibration: %s", self.doubt)
        return self

    def _search(self, logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> None:
        """Find a map and keep it."""
        descent = Descent(SELECTORS[self.selector], self.window, self.tolerance, self.steps, self.patience)
        search = Search(descent, self.lowest, self.highest)
        name, share = self._mapping(search, logits, label)
        found = search.found(self._families[name], logits, label, lambda part: self.advance(share * part))
        self._keep(name, found)

    @property
    def settled(self) -> str:
        """The mapping, and what chose it where it was not named, and the temperature before it."""
        if not len(self.values):
            return ""
        chosen = f" by {self.selector}" if self.mapping == "automatic" else ""
        return f"{MAPPINGS[int(self.chosen)]}{chosen} at T = {float(self.temperature):.4g}"

    @property
    def doubt(self) -> str:
        """That a T is a bound, or that examples which are all right tell of no map."""
        if not self.hit_bound:
            return ""
        if not len(self.values):
            return "every example is predicted right, which tells of no map: nothing is changed"
        return f"a T is a bound of {self.lowest:g}…{self.highest:g}"

    def forward(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in the dtype of `logits`; uncalibrated ones before `fit`.

        Raises:
            UserError: a state was loaded that this calibrator cannot have.
        """
        if not len(self.values):
            return keep_prediction(logits.double().log_softmax(-1).to(logits.dtype), logits)
        return keep_prediction(self._map()(logits).to(logits.dtype), logits)

    def _map(self) -> Found:
        """The map that was found, as the state has it."""
        number, temperature, size = int(self.chosen), float(self.temperature), len(self.values)
        if 0 <= number < len(MAPPINGS) and 0 < temperature < math.inf:
            mapping = self._families[MAPPINGS[number]](temperature)
            if mapping.size == size:
                return Found(temperature, mapping, self.values)
        raise UserError(
            f"A state of h_calibration with map {number} of {len(MAPPINGS)}, T = {temperature:g} and {size} parameters "
            "is not one of this calibrator: it was fitted with other arguments, or is damaged."
        )

    @property
    def _families(self) -> dict[str, Family]:
        """The maps of each name, after a temperature: T_k of a mixture are relative to it."""
        return {
            "mixture": lambda before: Mixture(self.temperatures, self.lowest / before, self.highest / before),
            "piecewise": lambda before: Piecewise(self.segments),
            "monotone": lambda before: Monotone(self.hidden),
        }

    def _mapping(self, search: Search, logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]) -> tuple[str, float]:
        """Which mapping to fit, the best on rows left out where that is asked for; and its share of all the work."""
        if self.mapping != "automatic":
            return self.mapping, 1.0
        if len(label) < FEWEST:
            log.info("h_calibration: %d examples are too few to choose a mapping by", len(label))
            return MAPPINGS[0], 1.0
        own = 1 / (1 + len(MAPPINGS) * (FOLDS - 1))  # a fold's fit takes (FOLDS - 1) / FOLDS of it
        scores = search.scores(self._families, logits, label, lambda part: self.advance((1 - own) * part))
        told = ", ".join(f"{name} {score:.5g}" for name, score in scores.items())
        log.info("h_calibration: %s of left-out examples: %s", self.selector, told)
        return min(scores, key=scores.__getitem__), own

    def _keep(self, name: str, found: Found) -> None:
        self.temperature.fill_(found.temperature)
        self.values = found.parameters
        self.chosen.fill_(MAPPINGS.index(name))
        self.hit_bound.fill_(found.at_bound)

    def _forget(self) -> None:
        """Be as before a fit, but that there was no optimum."""
        self.temperature.fill_(1.0)
        self.values = self.values.new_zeros(0)
        self.chosen.fill_(0)
        self.hit_bound.fill_(True)
