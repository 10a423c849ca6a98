"""Conformal sets of a model and its calibrators, by rules that are set on one half of the calibration split."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from poise.attacks.draws import Draws
from poise.batch import Predictions
from poise.calibration import refitted
from poise.calibrator import Calibrator
from poise.conformal.measures import Measured
from poise.conformal.rules import Held, Rule, rules
from poise.conformal.told import Told
from poise.evaluator import Subject
from poise.predictions import predict

CALIBRATION = "calibration"

Rows = Int[Tensor, " M"]


@dataclass(frozen=True)
class Halves:
    """Two random halves of the calibration split, keyed by (seed, position); positions in random order.

    Args:
        fitting: to which calibrators and rules are fitted.
        setting: by which thresholds are set, and nothing else is done: the larger one, where one is.
    """

    fitting: Int[Tensor, " F"]
    setting: Int[Tensor, " S"]

    @classmethod
    def of(cls, subject: Subject) -> "Halves":
        """Those of a subject's data."""
        size = len(subject.splits.calibration)
        order = _uniform(subject, "halves", torch.arange(size)).argsort(stable=True)
        return cls(order[: size // 2], order[size // 2 :])


@dataclass(frozen=True)
class PlainSets:
    """Rules by name for each column of the report.

    Args:
        subject: with calibrators that were fitted to one half.
        rules: of the uncalibrated model, then of each calibrator.
    """

    subject: Subject
    rules: Sequence[Mapping[str, Rule]]

    @classmethod
    def fitted(cls, subject: Subject, halves: Halves, alpha: float) -> "PlainSets":
        """Rules of sets without the true label in a share of alpha at most."""
        seen = predict(subject.model, subject.splits.calibration, subject.ranks, batch_size=subject.batch_size)
        own = replace(subject, calibrators=_refitted(subject, seen.rows(halves.fitting)))
        u = _uniform(subject, CALIBRATION, seen.index)
        made = []
        for _, column in own.columns("", seen):
            held = Held(column.logits, column.label.long(), u)
            made.append(rules(held.rows(halves.fitting), held.rows(halves.setting), alpha))
        return cls(own, made)

    def settled(self, rule: str) -> dict[str, list[str]]:
        """What was chosen for a rule, in words, and for which columns; "" is the uncalibrated one."""
        columns: dict[str, list[str]] = {}
        for name, by_name in zip(("", *self.subject.calibrators), self.rules, strict=True):
            columns.setdefault(by_name[rule].settled, []).append(name)
        return columns

    def told(self, split: str, seen: Predictions, index: Rows) -> Iterator[Told]:
        """The sets of each column and rule for examples at these positions of a split."""
        u = _uniform(self.subject, split, index)
        columns = self.subject.columns(split, seen)
        for name, (prefix, column), by_name in zip(("", *self.subject.calibrators), columns, self.rules, strict=True):
            for rule, one in by_name.items():
                yield Told(prefix, name, rule, Measured.of(one.sets(column.logits, u), column.label, column.group))


def _refitted(subject: Subject, held_out: Predictions) -> dict[str, Calibrator]:
    """Copies of the calibrators, fitted to these alone."""
    stream = subject.splits.streams.get("unlabelled")
    needed = any("unlabelled" in calibrator.needs for calibrator in subject.calibrators.values())
    unlabelled = None
    if needed and stream is not None:
        unlabelled = predict(subject.model, stream, subject.ranks, batch_size=subject.batch_size)
    with subject.progress("fit calibrators to one half", len(subject.calibrators)) as done:
        return {
            name: refitted(calibrator, held_out, unlabelled, done) for name, calibrator in subject.calibrators.items()
        }


def _uniform(subject: Subject, split: str, index: Rows) -> Float[Tensor, " M"]:
    """A random number for each example of a split, the same whichever others are looked at."""
    return Draws.of(subject.seed, index.cpu()).named("conformal", split).uniform()
