"""Calibrators fitted on the calibration split, and the choice of the one that is shipped."""

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out
from poise.errors import UserError

UNCALIBRATED = "uncalibrated"
FOLDS = 5
FEWEST = 3  # examples that can be split so that a calibrator still gets two

log = logging.getLogger("poise")


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and what of it is shipped.

    Args:
        calibrators: fitted on the whole calibration split, by alias.
        shipped: alias of the one that goes with the model; None where there is no calibrator.
        scores: negative log-likelihood by alias, cross-validated on the calibration split, and of
            'uncalibrated'; empty where there was nothing to choose, or too little to choose by.
        examples: of the calibration split.
    """

    calibrators: Mapping[str, Calibrator]
    shipped: str | None
    scores: Mapping[str, float]
    examples: int

    @property
    def reason(self) -> str:
        """One sentence for the report: what is shipped and why."""
        if self.shipped is None:
            return "There is no calibrator: what is shipped is uncalibrated."
        if len(self.calibrators) == 1:
            return f"{self.shipped} is shipped, the only calibrator, fitted on {self.examples} examples."
        if not self.scores:
            return f"{self.shipped} is shipped, the first: {self.examples} examples are too few to choose by."
        scores = sorted(self.scores.items(), key=lambda item: item[1])
        told = ", ".join(f"{name} {score:.4f}" for name, score in scores)
        none_helps = "; none of them beats the uncalibrated model" if scores[0][0] == UNCALIBRATED else ""
        return (
            f"{self.shipped} is shipped, the calibrator with the lowest cross-validated NLL on {self.examples} "
            f"examples ({told}){none_helps}."
        )


def fitted(
    calibrators: Mapping[str, Calibrator], held_out: Predictions, unlabelled: Predictions | None = None
) -> Calibration:
    """Fit all calibrators on the calibration split and choose, of several, by cross-validated NLL on it.

    The calibrators given are the ones fitted; all ranks come to the same.

    Raises:
        UserError: unlabelled data that a calibrator needs are not there, or predictions nothing can be fitted to.
    """
    for alias, calibrator in calibrators.items():
        if "unlabelled" in calibrator.needs and unlabelled is None:
            raise UserError(f"{alias} needs unlabelled data: give the data a stream called `unlabelled`")
    check_held_out(held_out)
    scores = _scores(calibrators, held_out, unlabelled)
    for alias, calibrator in calibrators.items():
        calibrator.fit(held_out, unlabelled)
        log.info("fitted %s on %d examples", alias, len(held_out.label))
    shipped = min(calibrators, key=lambda alias: scores.get(alias, 0.0), default=None)
    return Calibration(calibrators, shipped, scores, len(held_out.label))


def _scores(
    calibrators: Mapping[str, Calibrator], held_out: Predictions, unlabelled: Predictions | None
) -> dict[str, float]:
    if len(calibrators) < 2 or len(held_out.label) < FEWEST:
        return {}
    uncalibrated = _total_nll(held_out.logits, held_out.label) / len(held_out.label)
    crossed = {alias: cross_validated(each, held_out, unlabelled) for alias, each in calibrators.items()}
    return {UNCALIBRATED: uncalibrated, **crossed}


def cross_validated(calibrator: Calibrator, held_out: Predictions, unlabelled: Predictions | None = None) -> float:
    """Mean negative log-likelihood of each example under copies fitted without its fold; inf where it is NaN."""
    total = _total_nll(out_of_fold(calibrator, held_out, unlabelled), held_out.label)
    return math.inf if math.isnan(total) else total / len(held_out.label)


@torch.no_grad()
def out_of_fold(
    calibrator: Calibrator, held_out: Predictions, unlabelled: Predictions | None = None
) -> Float[Tensor, "N C"]:
    """Each example's logits as a copy of the calibrator gives them that was fitted without its fold."""
    fold = folds(held_out.label)
    crossed = torch.empty_like(held_out.logits)
    for left_out in fold.unique():
        outside = fold == left_out
        with _silent(), torch.enable_grad():
            part = copy.deepcopy(calibrator).fit(_rows(held_out, ~outside), unlabelled)
        crossed[outside] = part(held_out.logits[outside])
    return crossed


def folds(label: Int[Tensor, " N"], count: int = FOLDS) -> Int[Tensor, " N"]:
    """Each example's fold in 0…count-1, or 0…N-1: all of the same size and as alike in their classes as can be."""
    by_class = label.argsort(stable=True)
    fold = torch.empty_like(by_class)
    fold[by_class] = torch.arange(len(label)) % count
    return fold


def _rows(held_out: Predictions, chosen: Tensor) -> Predictions:
    """The chosen rows."""
    features, group = held_out.features, held_out.group
    return replace(
        held_out,
        logits=held_out.logits[chosen],
        features=None if features is None else features[chosen],
        label=held_out.label[chosen],
        group=None if group is None else group[chosen],
        index=held_out.index[chosen],
    )


@torch.no_grad()
def _total_nll(logits: Tensor, label: Tensor) -> float:
    return -float(logits.double().log_softmax(-1).gather(1, label[:, None].long()).sum())


@contextmanager
def _silent() -> Iterator[None]:
    """Keep back what calibrators say of a part of the examples."""
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
