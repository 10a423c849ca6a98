"""What is left wrong where a model may withhold the answers that it doubts."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt

from poise.errors import UserError
from poise.evaluation.certificates import lower_bound
from poise.evaluation.features import of_training
from poise.evaluation.ranked import Key, Ranked, ranked, thinned
from poise.evaluation.risk_target import COVERAGES, Selection, fewest, selection
from poise.evaluation.selective_tables import CENTROID, after_calibration, by_split, meanings, on_test, path, told
from poise.evaluator import Evaluator, Findings, Subject
from poise.figures.selective import Curve, RiskCoverage
from poise.scores import TEST
from poise.uncertainty.class_centroids import AGREES, ClassCentroids

AGREED = Selection(AGREES, math.nan)
SEEN = "calibrators were fitted to the examples that choose it, and may look surer on these than on others"


class Selective(Evaluator):
    """Selective prediction: risk, the share of wrong answers among those given, over coverage, the share given.

    Answers are withheld by two scores. `msp` is the probability of the predicted class, before calibration and after
    each calibrator. `centroid` is the rule of class centroids: how the distance of an example's features to the mean of
    the predicted class stands to that to the nearest other one, by means of the training split without augmentation.

    For each score `aurc` and `augrc` are areas below risk and below the share of all answers that are given and wrong,
    over coverage, and `coverage_at_risk` is the largest coverage with a risk of `target` or less that any threshold has
    on these examples, in hindsight. Beside that a threshold is chosen on the calibration split so that, of examples
    like those, the risk is `target` or less but with a probability of `alpha`; what it comes to on test and on each
    named shift is told, and where test breaks the promise a warning says so. Scores after a calibrator have a threshold
    by the same rule and no promise, for the calibrator was fitted to the examples that choose it: a temperature hardly
    changes which answers are withheld, calibrators that learn more may look surer on these examples than on others. Of
    the centroids what comes of giving those answers alone which the nearest mean agrees with is told as well.

    Sources: Geifman, El-Yaniv, Selective Classification for Deep Neural Networks, 2017, arXiv 1705.08500, for the
    promise; Traub et al., 2024, arXiv 2407.01032, for `augrc`; Jiang et al., 2018, arXiv 1805.11783, for `centroid`.
    Departures: see `poise.evaluation.risk_target` and `poise.uncertainty.class_centroids`.

    Args:
        target: risk that is not to be exceeded.
        alpha: probability, at most, that it is, for each score.
        train_examples: of the training split, drawn by the seed, that class means are of at most.
    """

    def __init__(
        self,
        target: Annotated[float, Gt(0), Lt(1)] = 0.05,
        alpha: Annotated[float, Gt(0), Le(0.5)] = 0.05,
        train_examples: Annotated[int, Ge(1)] = 50_000,
    ) -> None:
        self.target = target
        self.alpha = alpha
        self.train_examples = train_examples

    def evaluate(self, subject: Subject) -> Findings:
        """`<split>/selective/<score>/<metric>`, after a calibrator `<split>/<calibrator>/selective/<score>/<metric>`.

        Metrics are `aurc`, `augrc`, `coverage_at_risk`, at the chosen threshold `coverage` and `risk`, and on test
        `threshold`: the probability of the predicted class above which an answer is given, for `centroid` the score
        below which. Before calibration also `risk_bound`, what is promised; `<split>/selective/centroid/…` also has
        `coverage_where_agreed` and `risk_where_agreed`.
        """
        centroids, notes = self._centroids(subject)
        chosen = self._chosen(subject, centroids)
        found = {split: ranked(subject, split, data, centroids) for split, data in subject.tests()}
        values = {split: self._values(by, chosen) for split, by in found.items()}
        for key, by in chosen.items():
            values[TEST][key] |= _choice(key, by)
        tables = {f"{TEST}-selective": on_test(values[TEST], len(subject.splits.test), self.target, self.alpha)}
        if subject.splits.shifts and chosen:
            tables[f"{TEST}-selective-shifts"] = by_split(values, self.target)
        return Findings(
            {
                f"{path(split, key)}/{name}": value
                for split, by in values.items()
                for key, own in by.items()
                for name, value in own.items()
            },
            {f"{TEST}-selective": self._drawing(found[TEST], values[TEST])},
            tables,
            notes=(*notes, *self._promised(subject, chosen)),
            doubts=tuple(self._broken(found[TEST], chosen)),
            meanings=meanings(found[TEST]),
        )

    def _centroids(self, subject: Subject) -> tuple[ClassCentroids | None, tuple[str, ...]]:
        """Fitted ones and nothing to say, or none and why."""
        try:
            features, label = of_training(subject, self.train_examples)
            centroids = ClassCentroids().fit(features, label, subject.splits.num_classes)
        except UserError as error:
            return None, (f"Without class centroids: {str(error).removesuffix('.')}.",)
        if not centroids.nowhere:
            return centroids, ()
        told = (
            f"{centroids.nowhere} of {subject.splits.num_classes} classes have none of the {len(label):,} training "
            "examples that centroids are of: by centroid, answers of these classes are withheld first."
        )
        return centroids, (told,)

    def _chosen(self, subject: Subject, centroids: ClassCentroids | None) -> dict[Key, Selection]:
        """Thresholds for the target, by calibration examples; none without such."""
        held_out = subject.splits.calibration
        if len(held_out) < subject.ranks.size:
            return {}
        by = ranked(subject, "calibration", held_out, centroids)
        return {key: selection(own.strangeness, own.wrong, self.target, self.alpha) for key, own in by.items()}

    def _values(self, by: Mapping[Key, Ranked], chosen: Mapping[Key, Selection]) -> dict[Key, dict[str, float]]:
        """Metrics of each score on one split."""
        values = {key: own.metrics(self.target) for key, own in by.items()}
        for key, selected in chosen.items():
            values[key] |= by[key].outcome(selected)
        if CENTROID in by:
            agreed = by[CENTROID].outcome(AGREED)
            values[CENTROID] |= {f"{name}_where_agreed": value for name, value in agreed.items()}
        return values

    def _promised(self, subject: Subject, chosen: Mapping[Key, Selection]) -> Iterator[str]:
        """What the chosen thresholds are and what of none could be promised, as remarks."""
        examples = len(subject.splits.calibration)
        if not chosen:
            yield "No threshold was chosen for a risk target: the data have no calibration examples."
        at_most = f"a risk of {100 * self.target:g} % at most"
        if kept := [told(key) for key, by in chosen.items() if by.promises and not after_calibration(key)]:
            sure = f"with a probability of {100 * (1 - self.alpha):g} %, by {examples:,} calibration examples"
            yield f"For {'; '.join(kept)} the threshold promises {at_most}, each {sure}."
        if kept := [told(key) for key, by in chosen.items() if by.promises and after_calibration(key)]:
            yield f"For {'; '.join(kept)} a threshold is chosen by the same rule, and promises nothing: {SEEN}."
        of_reason: dict[str, list[str]] = {}
        for key, by in chosen.items():
            if not by.promises:
                of_reason.setdefault(self._reason(examples, by), []).append(told(key))
        for reason, keys in of_reason.items():
            others = "; ".join(keys)
            yield f"For {others} no threshold promises {at_most}, so no answer is given: {reason}."

    def _reason(self, examples: int, by: Selection) -> str:
        """Why nothing is promised, and how many calibration examples would do."""
        needed = fewest(self.target, self.alpha)
        if examples < needed:
            return (
                f"by {self._bound} that takes {needed:,} calibration examples, none of them wrong, and there are "
                f"{examples:,}"
            )
        if by.enough is None:
            return f"too many of the surest of {examples:,} calibration examples are wrong, and more would not help"
        return (
            f"{examples:,} calibration examples are too few where errors are as frequent as among them, and about "
            f"{by.enough:,} would do, by {self._bound}"
        )

    @property
    def _bound(self) -> str:
        """By what it is decided whether a threshold will do."""
        return f"Clopper and Pearson's bound at {self.alpha:g}/{COVERAGES} ({COVERAGES} thresholds are tried)"

    def _broken(self, test: Mapping[Key, Ranked], chosen: Mapping[Key, Selection]) -> Iterator[str]:
        """What to be warned of where the risk on test is more than was asked for, and that is no chance."""
        over: dict[bool, list[str]] = {}
        for key, by in chosen.items():
            count, wrong = test[key].accepted(by)
            if count and float(lower_bound(torch.tensor([wrong]), count, self.alpha)) > self.target:
                over.setdefault(after_calibration(key), []).append(f"{told(key)} {100 * wrong / count:.1f} %")
        for calibrated, risks in over.items():
            limit = f"over the {100 * self.target:g} % {'asked for' if calibrated else 'promised'}"
            why = SEEN if calibrated else "test is not like the calibration split"
            yield f"on test the risk at the chosen thresholds is {'; '.join(risks)}, {limit}: {why}"

    def _drawing(self, test: Mapping[Key, Ranked], values: Mapping[Key, Mapping[str, float]]) -> RiskCoverage:
        curves = tuple(Curve(told(key), *thinned(own.curve), _point(values[key])) for key, own in test.items())
        return RiskCoverage(TEST, self.target, len(next(iter(test.values())).wrong), curves)


def _choice(key: Key, by: Selection) -> dict[str, float]:
    """What is promised and the threshold for it, which there is none of where all or no answers are given."""
    threshold = by.threshold if key == CENTROID else math.exp(-by.threshold)
    limits = {"threshold": threshold} if math.isfinite(by.threshold) else {}
    return limits | ({"risk_bound": by.bound} if by.promises and not after_calibration(key) else {})


def _point(values: Mapping[str, float]) -> tuple[float, float] | None:
    return (values["coverage"], values["risk"]) if "risk" in values else None
