"""A map for logits: found by a descent, and chosen among families by cross-validation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, inf

from poise.calibration import folds
from poise_recipes.calibration.h import mapping as maps
from poise_recipes.calibration.h.descent import Descent
from poise_recipes.calibration.h.rows import Rows, block_rows, classes_first
from poise_recipes.calibration.temperature_scaling import solve_temperature

FOLDS = 3  # to choose by
FEWEST = 30  # examples to choose by

Family = Callable[[float], maps.Mapping]
"""Gives the family's maps where a temperature comes before them."""


@dataclass(frozen=True)
class Found:
    """A map of logits: over a temperature, then one of a family's maps.

    Args:
        temperature: the best single one.
        mapping: the family.
        parameters: of its map.
        at_bound: whether a temperature is as far as it may be.
    """

    temperature: float
    mapping: maps.Mapping
    parameters: Float[Tensor, " P"]
    at_bound: bool = False

    def __call__(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        """Log-probabilities in double precision, block by block."""
        return torch.cat([self._of_block(part) for part in logits.split(block_rows(logits))])

    def _of_block(self, logits: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        log_p = self.mapping.log_probabilities(classes_first(logits, self.temperature), self.parameters).t()
        return log_p.masked_fill(logits == -inf, -inf)


@dataclass(frozen=True)
class Search:
    """How a map is found.

    Args:
        descent: the search for parameters.
        lowest: smallest temperature that comes before a map.
        highest: the largest.
    """

    descent: Descent
    lowest: float
    highest: float

    def found(
        self, family: Family, logits: Float[Tensor, "N C"], label: Int[Tensor, " N"], advance: Callable[[float], None]
    ) -> Found:
        """The family's best map; `advance` is told of shares that are done, of 1 in all."""
        temperature, at_bound = solve_temperature(logits, label, self.lowest, self.highest)
        mapping = family(temperature)
        parameters = self.descent(mapping, Rows.of(logits, label, temperature), advance)
        return Found(temperature, mapping, parameters, at_bound or mapping.at_bound(parameters))

    def scores(
        self,
        families: Mapping[str, Family],
        logits: Float[Tensor, "N C"],
        label: Int[Tensor, " N"],
        advance: Callable[[float], None],
    ) -> dict[str, float]:
        """By the descent's selector, each family's maps on the rows that they were found without; less is better."""

        def advance_one(share: float) -> None:
            advance(share / len(families) / FOLDS)

        fold = folds(label, FOLDS)
        scores = {}
        for name, family in families.items():
            crossed = []
            for left_out in range(FOLDS):
                inside, outside = fold == left_out, fold != left_out
                found = self.found(family, logits[outside], label[outside], advance_one)
                crossed.append(found(logits[inside]).exp().t())
            labels = [label[fold == left_out] for left_out in range(FOLDS)]
            scores[name] = self.descent.selector(crossed, labels)
        return scores
