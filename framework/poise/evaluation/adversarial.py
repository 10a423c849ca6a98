"""Accuracy under attack."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from jaxtyping import Int
from torch import Tensor

from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.breakdown import breakdowns
from poise.data.dataset import Arrays
from poise.errors import UserError
from poise.evaluator import Evaluator, Findings, Subject
from poise.figures.radius import Radius
from poise.models.classifier import Classifier
from poise.predictions import predict
from poise.scores import UNCALIBRATED
from poise.shifts import with_means

Rows = Int[Tensor, " M"]

log = logging.getLogger("poise")


class Adversarial(Evaluator):
    """Accuracy under projected gradient descent on the cross-entropy, inside the run's threat and at other radii.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083.
    The attack sees the uncalibrated model, in evaluation mode, and its start is keyed by (seed, position).

    It costs each example `steps · restarts` gradients, and some examples of each split as many again for each further
    radius: by default 60 000 gradients a split, which is an eighth of an epoch of training on 50 000 examples against
    10 steps. Accuracy at radius 0 is that on clean inputs.

    Args:
        steps: gradient steps of each restart.
        restarts: random starts; an example counts as right only if it withstands all.
        step_size: of each step, in input units; 2.5·eps/steps if None. At other radii in proportion.
        radii: further radii to attack at, as multiples of the threat's eps; those beyond the data's range are left out.
        curve_examples: of each split, evenly spread, that are attacked at them; also the curve's 0 and 1 are of these.
        shifts: whether named shifts are attacked as well as test, each at the same cost.
    """

    def __init__(
        self,
        steps: Annotated[int, Ge(1)] = 20,
        restarts: Annotated[int, Ge(1)] = 1,
        step_size: Annotated[float, Gt(0)] | None = None,
        radii: tuple[Annotated[float, Ge(0)], ...] = (0.5, 1.5, 2.0),
        curve_examples: Annotated[int, Ge(1)] = 1000,
        shifts: bool = False,
    ) -> None:
        self.steps = steps
        self.restarts = restarts
        self.step_size = step_size
        self.radii = radii
        self.curve_examples = curve_examples
        self.shifts = shifts

    def evaluate(self, subject: Subject) -> Findings:
        """Robust accuracy by split, as a whole and by class, group and radius, before and after each calibrator.

        `<split>/accuracy`, `<split>/robust_accuracy/pgd-<steps>`, `<split>/worst_class_robust_accuracy/pgd-<steps>`, …
        and `<split>/robust_accuracy/pgd-<steps>/radius/<multiple of eps>`.
        """
        attacked = list(subject.tests())[: None if self.shifts else 1]
        found = {split: self._split(subject, split, data) for split, data in attacked}
        return with_means(found, subject.splits.shifts)

    def _split(self, subject: Subject, split: str, data: Arrays) -> Findings:
        clean = predict(subject.model, data, subject.ranks, batch_size=subject.batch_size)
        seen = self._attacked(subject, split, data, 1.0, torch.arange(len(data)))
        found = self._robust(subject, split, data, clean, seen)
        return Findings.merged([found, self._curve(subject, split, data, {0.0: clean, 1.0: seen})])

    @property
    def _name(self) -> str:
        return f"pgd-{self.steps}"

    def _robust(self, subject: Subject, split: str, data: Arrays, clean: Predictions, seen: Predictions) -> Findings:
        """What the attack leaves at the threat's own radius."""
        measure = f"robust_accuracy/{self._name}"
        parts = list(breakdowns(subject.splits, data))
        metrics: dict[str, float] = {}
        for prefix, column in subject.columns(split, clean):
            metrics[f"{prefix}/accuracy"] = float(column.right.double().mean())
        for prefix, column in subject.columns(split, seen):
            metrics[f"{prefix}/{measure}"] = float(column.right.double().mean())
            for breakdown in parts:
                metrics |= breakdown.metrics(prefix, measure, column.right)
        right = {"clean": clean.right, self._name: seen.right}
        bars = {f"{split}-{self._name}-accuracy-by-{part.kind}": part.drawing(split, **right) for part in parts}
        return Findings(metrics, dict(bars))

    def _curve(self, subject: Subject, split: str, data: Arrays, known: Mapping[float, Predictions]) -> Findings:
        """Accuracy over the radius, on some of the examples; nothing where there is no further radius."""
        further = list(self._further(subject.threat, data))
        if not further:
            return Findings()
        count = min(len(data), max(self.curve_examples, subject.ranks.size))
        some = torch.arange(count) * len(data) // count
        at = {radius: seen.rows(some) for radius, seen in known.items()}
        at |= {radius: self._attacked(subject, split, data, radius, some) for radius in further}
        curves: dict[str, dict[float, float]] = {}
        for radius, seen in sorted(at.items()):
            for prefix, column in subject.columns(split, seen):
                curves.setdefault(prefix, {})[radius] = float(column.right.double().mean())
        metrics = {
            f"{prefix}/robust_accuracy/{self._name}/radius/{radius:g}": accuracy
            for prefix, curve in curves.items()
            for radius, accuracy in curve.items()
        }
        drawing = self._drawing(subject, split, curves, count)
        return Findings(metrics, {f"{split}-{self._name}-accuracy-by-radius": drawing})

    def _further(self, threat: Threat, data: Arrays) -> Iterator[float]:
        """The radii that are attacked besides the threat's own."""
        for radius in sorted({*self.radii} - {0.0, 1.0}) if threat.eps else ():
            try:
                _scaled(threat, radius).check(data.x[:1])
            except UserError as error:
                log.info("no attack at %g times eps: %s", radius, error)
            else:
                yield radius

    def _attacked(self, subject: Subject, split: str, data: Arrays, radius: float, some: Rows) -> Predictions:
        """Predictions on some examples, attacked within a multiple of the threat's eps."""
        step_size = None if self.step_size is None else radius * self.step_size
        attack = PGD(_scaled(subject.threat, radius), self.steps, step_size, self.restarts)

        def attacked(model: Classifier, x: Tensor, label: Tensor, position: Tensor) -> Tensor:
            return attack(model, x, label, seed=subject.seed, index=some[position])

        chosen = data.rows(some)
        title = f"attack {split}" if radius == 1 else f"attack {split} at {radius:g} eps"
        with subject.progress(title, len(chosen)) as done:
            return predict(subject.model, chosen, subject.ranks, attacked, subject.batch_size, done)

    def _drawing(self, subject: Subject, split: str, curves: Mapping[str, Mapping[float, float]], count: int) -> Radius:
        names = [prefix.removeprefix(split).strip("/") or UNCALIBRATED for prefix in curves]
        return Radius(
            split=split,
            attack=self._name,
            norm=subject.threat.norm,
            eps=subject.threat.eps,
            radii=tuple(radius * subject.threat.eps for radius in curves[split]),
            columns=tuple((name, tuple(curve.values())) for name, curve in zip(names, curves.values(), strict=True)),
            examples=count,
        )


def _scaled(threat: Threat, radius: float) -> Threat:
    return replace(threat, eps=radius * threat.eps)
