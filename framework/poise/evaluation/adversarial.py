"""Accuracy under attack."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Int
from torch import Tensor

from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.data.dataset import Arrays
from poise.errors import UserError
from poise.evaluator import Evaluator, Findings, Subject
from poise.honesty.checks import honesty
from poise.honesty.sample import Sample
from poise.predictions import predict
from poise.robustness.by_radius import by_radius
from poise.robustness.left import Left, left_by, left_by_autoattack
from poise.robustness.scores import costs, scored
from poise.scores import TEST
from poise.shifts import with_means

Rows = Int[Tensor, " M"]

GAP = 5.0  # points between PGD and AutoAttack; adversarially trained networks of the literature have about four

log = logging.getLogger("poise")


class Adversarial(Evaluator):
    """Accuracy under attack inside the run's threat, over the radius, and whether the attack can be believed.

    Projected gradient descent on the cross-entropy is always run, on every example; at other radii and in the checks on
    some. With a version other than `fast` AutoAttack is run on every example as well. `fast` is a look: PGD flatters a
    model whose gradients mislead, so what is published takes `version=standard`, and a model whose outputs are random
    `version=rand`.

    The checks stand in the report, each with its limit, and one that is flagged is a warning: that more steps help and
    were enough, that PGD breaks more than a transferred attack, a short Square and noise do, that gradients are not
    zero, that a huge radius breaks all, and that outputs are logits and no random ones.

    Sources: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083; Croce,
    Hein, Reliable evaluation of adversarial robustness, 2020, arXiv 2003.01690; Cubuk et al., Intriguing Properties of
    Adversarial Examples, 2017, arXiv 1711.02846, for the law error = A · eps^B; Carlini et al., On Evaluating
    Adversarial Robustness, 2019, arXiv 1902.06705, for the checks. All attacks see the uncalibrated model, in
    evaluation mode, and their draws are keyed by (seed, position).

    Cost of an example: PGD `steps · restarts` gradients; some of each split as many again for each further radius; some
    of test for the checks 8 · steps · restarts gradients and 200 queries; AutoAttack up to 1900 gradients and 5000
    queries where an example of ten classes withstands it all, 7300 with `plus`, 4000 with `rand`. Accuracy
    at radius 0 is that on clean inputs.

    Args:
        version: `fast` for PGD alone, a look; `standard` for AutoAttack, which is what papers report; `plus` for more
            of it; `rand` for models whose outputs are random.
        steps: of PGD, gradients of each restart.
        restarts: of PGD, random starts; an example counts as right only if it withstands all.
        step_size: of PGD, in input units; 2.5·eps/steps if None. At other radii in proportion.
        radii: further radii for PGD, as multiples of the threat's eps; those beyond the data's range are left out. The
            law is fitted to those with an error between 0.1 % and 30 % of what is right on clean inputs, if they are
            five or more.
        curve_examples: of each split, evenly spread, that are attacked at them; also the curve's 0 and 1 are of these.
        check_examples: of test, evenly spread, on which the checks are made.
        shifts: whether named shifts are attacked as well as test, each at the same cost but for the checks.
    """

    def __init__(
        self,
        version: Literal["fast", "standard", "plus", "rand"] = "fast",
        steps: Annotated[int, Ge(1)] = 20,
        restarts: Annotated[int, Ge(1)] = 1,
        step_size: Annotated[float, Gt(0)] | None = None,
        radii: tuple[Annotated[float, Ge(0)], ...] = (0.03, 0.06, 0.12, 0.25, 0.5, 1.5, 2.0),
        curve_examples: Annotated[int, Ge(1)] = 1000,
        check_examples: Annotated[int, Ge(1)] = 128,
        shifts: bool = False,
    ) -> None:
        self.version = version
        self.steps = steps
        self.restarts = restarts
        self.step_size = step_size
        self.radii = radii
        self.curve_examples = curve_examples
        self.check_examples = check_examples
        self.shifts = shifts

    def evaluate(self, subject: Subject) -> Findings:
        """Robust accuracy by split, attack, class, group and radius, NLL and ECE under attack, costs and checks.

        `<split>/accuracy`, `<split>/robust_accuracy/<attack>`, `<split>/worst_class_robust_accuracy/<attack>`, …,
        `<split>/robust_accuracy/<attack>/radius/<multiple of eps>`, `<split>/robust_nll/<attack>`,
        `<split>/power_law/<attack>/…`, `<split>/attack_passes/<attack>/…`, `<split>/attack_milliseconds/<attack>` and
        `<split>/honesty/<attack>/<check>`, where attacks are `pgd-<steps>` and `autoattack`;
        `<split>/robust_accuracy/autoattack/<attack>` is what was left after each of its attacks, of which passes and
        time are told as well.
        """
        attacked = list(subject.tests())[: None if self.shifts else 1]
        found = {split: self._split(subject, split, data) for split, data in attacked}
        self._forget(subject)
        return Findings.merged([with_means(found, subject.splits.shifts), Findings(notes=(self._told(list(found)),))])

    def _split(self, subject: Subject, split: str, data: Arrays) -> Findings:
        clean = predict(subject.model, data, subject.ranks, batch_size=subject.batch_size)
        pgd = self._left(subject, split, data, 1.0, torch.arange(len(data)))
        lefts = [pgd]
        if self.version != "fast":
            lefts.append(left_by_autoattack(subject, split, data, self.version))
        parts = [scored(subject, split, data, clean, left) for left in lefts]
        parts += [
            costs(split, lefts),
            _beside_each_other(split, lefts),
            self._curve(subject, split, data, {0.0: clean, 1.0: pgd.seen}),
        ]
        if split == TEST:
            parts.append(self._checked(subject, split, data, clean, pgd.seen))
        return Findings.merged(parts)

    @property
    def _name(self) -> str:
        return f"pgd-{self.steps}"

    def _checked(self, subject: Subject, split: str, data: Arrays, clean: Predictions, seen: Predictions) -> Findings:
        """Whether the attack can be believed; nothing to ask where it may change nothing."""
        if not subject.threat.eps:
            return Findings()
        some = _spread(data, max(self.check_examples, subject.ranks.size))
        sample = Sample(subject, data.rows(some), some, clean.rows(some), seen.rows(some), self.steps, self.restarts)
        return honesty(sample, split, self._name)

    def _curve(self, subject: Subject, split: str, data: Arrays, known: Mapping[float, Predictions]) -> Findings:
        """Accuracy over the radius, on some of the examples; nothing where there is no further radius."""
        further = list(self._further(subject.threat, data))
        if not further:
            return Findings()
        some = _spread(data, max(self.curve_examples, subject.ranks.size))
        at = {radius: seen.rows(some) for radius, seen in known.items()}
        at |= {radius: self._left(subject, split, data, radius, some).seen for radius in further}
        return by_radius(subject, split, self._name, at)

    def _further(self, threat: Threat, data: Arrays) -> Iterator[float]:
        """The radii that are attacked besides the threat's own."""
        for radius in sorted({*self.radii} - {0.0, 1.0}) if threat.eps else ():
            try:
                _scaled(threat, radius).check(data.x[:1])
            except UserError as error:
                log.info("no attack at %g times eps: %s", radius, error)
            else:
                yield radius

    def _left(self, subject: Subject, split: str, data: Arrays, radius: float, some: Rows) -> Left:
        """What PGD leaves of some examples within a multiple of the threat's eps."""
        step_size = None if self.step_size is None else radius * self.step_size
        attack = PGD(_scaled(subject.threat, radius), self.steps, step_size, self.restarts)
        title = f"attack {split}" if radius == 1 else f"attack {split} at {radius:g} eps"
        return left_by(subject, data.rows(some), attack, some, title)

    def _forget(self, subject: Subject) -> None:
        """What was kept for an evaluation that is killed, once it was not."""
        subject.ranks.barrier()
        if subject.kept is not None and subject.ranks.rank == 0:
            shutil.rmtree(subject.kept, ignore_errors=True)

    def _told(self, splits: list[str]) -> str:
        """What was run, as a remark."""
        where = " and ".join(splits)
        if self.version == "fast":
            return (
                f"On {where} {self._name} alone was run (version=fast): a look, which may flatter the model; "
                "version=standard runs AutoAttack."
            )
        told = f"On {where} {self._name} was run, and AutoAttack {self.version}."
        if self.version == "rand":
            return f"{told} That is for models whose outputs are random; version=standard is stronger on others."
        return told


def _beside_each_other(split: str, lefts: Sequence[Left]) -> Findings:
    """What to make of PGD where AutoAttack was run as well."""
    if len(lefts) < 2:
        return Findings()
    weak, strong = lefts
    gap = 100 * float(weak.right.double().mean() - strong.right.double().mean())
    breaks = f"{split} {strong.attack} breaks {gap:.1f} points more than {weak.attack}"
    just_across = "ends at the first wrong point of an example, so NLL and ECE under it are of points just across"
    if gap <= GAP:
        return Findings(notes=(f"On {breaks}; it {just_across}.",))
    doubt = f"on {breaks}, over {GAP:g}: PGD is too weak here, and its numbers, curve and law flatter the model"
    return Findings(notes=(f"On {split} {strong.attack} {just_across}.",), doubts=(doubt,))


def _spread(data: Arrays, count: int) -> Rows:
    """Positions of so many examples, or of all that there are, evenly spread."""
    count = min(len(data), count)
    return torch.arange(count) * len(data) // count


def _scaled(threat: Threat, radius: float) -> Threat:
    return replace(threat, eps=radius * threat.eps)
