"""Calibrators fitted on the calibration split, and the choice of the one that is shipped."""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from poise.batch import Predictions
from poise.calibrator import Calibrator, check_held_out
from poise.errors import UserError
from poise.paired import difference, losses
from poise.progress import Progress, no_progress
from poise.scores import UNCALIBRATED

FOLDS = 5
FEWEST = 3  # examples that can be split so that a calibrator still gets two
DIGITS = 4  # of an NLL as it is shown; what is equal to these is equal

log = logging.getLogger("poise")


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and what of it is shipped.

    Args:
        calibrators: fitted on the whole calibration split, by alias.
        shipped: alias of the one that goes with the model; None where the model is shipped as it is.
        scores: negative log-likelihood by alias, cross-validated on the calibration split, and of
            'uncalibrated'; empty where there was nothing to choose, or too little to choose by.
        examples: of the calibration split.
        crossed: logits of the calibration split by alias, each example's as `out_of_fold` gives them; empty with
            `scores`.
        as_good: what these examples cannot tell from what is shipped, 'uncalibrated' or calibrators by alias: the 95 %
            interval of the mean difference of their cross-validated losses, row by row, includes 0.
    """

    calibrators: Mapping[str, Calibrator]
    shipped: str | None
    scores: Mapping[str, float]
    examples: int
    crossed: Mapping[str, Float[Tensor, "N C"]] = field(default_factory=dict, repr=False)
    as_good: Sequence[str] = ()

    @property
    def settled(self) -> str:
        """One sentence for the report: what the fits came to; "" where no calibrator says."""
        told = {alias: calibrator.settled for alias, calibrator in self.calibrators.items()}
        said = "; ".join(f"{alias}, {words}" for alias, words in told.items() if words)
        return f"Fitted: {said}." if said else ""

    @property
    def reason(self) -> str:
        """One sentence for the report: what is shipped and why."""
        if not self.calibrators:
            return "There is no calibrator: what is shipped is uncalibrated."
        if len(self.calibrators) == 1:
            return f"{self.shipped} is shipped, the only calibrator, fitted on {self.examples} examples."
        if not self.scores:
            return f"{self.shipped} is shipped, the first: {self.examples} examples are too few to choose by."
        scores = sorted(self.scores.items(), key=lambda item: item[1])
        told = ", ".join(f"{name} {score:z.{DIGITS}f}" for name, score in scores)
        uncertain = f"; these examples cannot tell it from {', '.join(self.as_good)} (95 %)" if self.as_good else ""
        if self.shipped is None:
            return (
                f"The model is shipped as it is: no calibrator has a lower cross-validated NLL on {self.examples} "
                f"examples ({told}){uncertain}. A calibrator that is named alone is shipped in any case."
            )
        lowest = round(self.scores[self.shipped], DIGITS)
        tied = [name for name in self.calibrators if round(self.scores[name], DIGITS) == lowest]
        simplest = f", of {len(tied)} equal ones the simplest" if len(tied) > 1 else ""
        return (
            f"{self.shipped} is shipped, the calibrator with the lowest cross-validated NLL on {self.examples} "
            f"examples ({told}){simplest}{uncertain}."
        )


def fitted(
    calibrators: Mapping[str, Calibrator],
    held_out: Predictions,
    unlabelled: Predictions | None = None,
    progress: Progress = no_progress,
) -> Calibration:
    """Fit all calibrators on the calibration split and choose, of several, by cross-validated NLL on it.

    The model as it is is one of them; a calibrator that is given alone is chosen. Of those that are equal in the four
    digits shown the one that learnt the fewest numbers is taken, of those the first. The calibrators given are the ones
    fitted; all ranks come to the same.

    Raises:
        UserError: unlabelled data that a calibrator needs are not there, or predictions nothing can be fitted to.
    """
    for alias, calibrator in calibrators.items():
        if "unlabelled" in calibrator.needs and unlabelled is None:
            raise UserError(f"{alias} needs unlabelled data: give the data a stream called `unlabelled`")
    check_held_out(held_out)
    to_choose = len(calibrators) > 1 and len(held_out.label) >= FEWEST
    crossed: dict[str, Tensor] = {}
    with progress("fit calibrators", len(calibrators) * (1 + FOLDS * to_choose)) as done:
        for alias, calibrator in calibrators.items():
            if to_choose:
                crossed[alias] = out_of_fold(calibrator, held_out, unlabelled, done)
            with calibrator.watched(done):
                calibrator.fit(held_out, unlabelled)
            log.info("fitted %s on %d examples", alias, len(held_out.label))
            _doubt(alias, calibrator, held_out)
    if not crossed:
        return Calibration(calibrators, next(iter(calibrators), None), {}, len(held_out.label))
    by_row = {UNCALIBRATED: losses(held_out.logits, held_out.label)}
    by_row |= {alias: losses(logits, held_out.label) for alias, logits in crossed.items()}
    scores = {name: float(each.mean()) for name, each in by_row.items()}
    kept = {UNCALIBRATED: 0} | {alias: learnt(calibrator) for alias, calibrator in calibrators.items()}
    best = min(by_row, key=lambda name: (round(scores[name], DIGITS), kept[name]))
    as_good = [name for name in by_row if name != best and not difference(by_row[name], by_row[best]).clear]
    shipped = None if best == UNCALIBRATED else best
    return Calibration(calibrators, shipped, scores, len(held_out.label), crossed, as_good)


@torch.no_grad()
def _doubt(alias: str, calibrator: Calibrator, held_out: Predictions) -> None:
    """Warn of a calibrator that gives no probabilities."""
    gone = int(calibrator(held_out.logits).isnan().any(-1).sum())
    if gone:
        log.warning("%s gives NaN for %d of the %d examples that it was fitted to", alias, gone, len(held_out.label))


def learnt(calibrator: nn.Module) -> int:
    """How many numbers a fitted calibrator keeps: the fewer, the simpler."""
    return sum(value.numel() for value in calibrator.state_dict().values() if value.is_floating_point())


@torch.no_grad()
def out_of_fold(
    calibrator: Calibrator,
    held_out: Predictions,
    unlabelled: Predictions | None = None,
    watch: Callable[[float], None] = lambda done: None,
) -> Float[Tensor, "N C"]:
    """Each example's logits as a copy of the calibrator gives them that was fitted without its fold.

    Args:
        calibrator: of which copies are fitted.
        held_out: the calibration split.
        unlabelled: as of `Calibrator.fit`.
        watch: told of each fold or share of one that is done, for a progress bar.
    """
    fold = folds(held_out.label)
    crossed = torch.empty_like(held_out.logits)
    for left_out in fold.unique():
        outside = fold == left_out
        part = refitted(calibrator, held_out.rows(~outside), unlabelled, watch)
        crossed[outside] = part(held_out.logits[outside])
    return crossed


def refitted(
    calibrator: Calibrator,
    held_out: Predictions,
    unlabelled: Predictions | None = None,
    watch: Callable[[float], None] = lambda done: None,
) -> Calibrator:
    """A copy that is fitted to these; the calibrator itself stays as it is. Arguments are those of `out_of_fold`."""
    part = copy.deepcopy(calibrator)
    with _silent(), torch.enable_grad(), part.watched(watch):
        part.fit(held_out, unlabelled)
    return part


def folds(label: Int[Tensor, " N"], count: int = FOLDS) -> Int[Tensor, " N"]:
    """Each example's fold in 0…count-1, or 0…N-1: all of the same size and as alike in their classes as can be."""
    by_class = label.argsort(stable=True)
    fold = torch.empty_like(by_class)
    fold[by_class] = torch.arange(len(label)) % count
    return fold


@contextmanager
def _silent() -> Iterator[None]:
    """Keep back what calibrators say of a part of the examples."""
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
