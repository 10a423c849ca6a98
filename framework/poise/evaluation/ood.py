"""Whether a model shows that it does not know what it is shown."""

from typing import Annotated

from annotated_types import Ge

from poise.data.dataset import Splits
from poise.errors import UserError
from poise.evaluation.comparisons import against, by_shift, column_meanings, confidence_on, failures
from poise.evaluation.strangeness import fitted, judged, score_meanings
from poise.evaluator import Evaluator, Findings, Subject
from poise.figures.detection import Roc
from poise.scores import TEST

MOST_PANELS = 9  # of the figure; of further shifts there are numbers alone


class Ood(Evaluator):
    """How well scores tell test examples from other things, from shifted ones, and right answers from wrong ones.

    Three questions that are never pooled: semantic shift, test against each OOD set; covariate shift, test against each
    named shift, which keeps the classes, so that a score which flags it is not for that reason better; and failures,
    the right ones of test against the wrong ones.

    Scores are the higher the stranger, and what is strange is the positive class. `msp`, minus the log of the largest
    probability, is the baseline of the field; it and `entropy` are told before calibration and after each calibrator.
    `max_logit` and `energy` are of the uncalibrated logits; `mahalanobis` and `knn` of the features that the head sees,
    fitted to the training split without augmentation.

    Nothing is fitted to or chosen on what is to be detected. `auroc` counts ties half. `aupr_out` and `aupr_in` are
    average precisions with strange and with usual examples as the positive ones, and hang on how many there are of
    each, which of failures each line tells: a calibrator that changes answers has others than the model. The literature
    calls two numbers FPR95: `fpr_at_95_id_recall` is the share of strange examples that pass where 95 % of the usual
    ones do, `fpr_at_95_ood_recall` the share of usual examples that are flagged where 95 % of the strange ones are.

    Sources: Yang et al., ImageNet-OOD: Deciphering Modern Out-of-Distribution Detection Algorithms, 2024, arXiv
    2310.01755, for the three questions; each score's own, in `poise.uncertainty`. Departures from the first: failures
    are those on test alone, and there is no row of an untrained network.

    Cost: the passes of the test sets and of the training examples. With 50,000 of these and features of width 512, one
    CPU core takes a second to fit `mahalanobis`, and 0.7 ms for `knn` of an example.

    Args:
        neighbours: k of `knn`; published are 50 for CIFAR and 1000 for ImageNet, with all of their examples.
        train_examples: of the training split, drawn by the seed, that `mahalanobis` and `knn` are fitted to at most.
    """

    def __init__(self, neighbours: Annotated[int, Ge(1)] = 50, train_examples: Annotated[int, Ge(1)] = 50_000) -> None:
        self.neighbours = neighbours
        self.train_examples = train_examples

    def check(self, splits: Splits) -> None:
        """Refuse data without an OOD set, and more neighbours than there are examples.

        Raises:
            UserError: likewise.
        """
        if not splits.ood:
            raise UserError("the data have no OOD set, such as data=…,ood data.ood.sources=svhn adds")
        if splits.trains and (known := min(self.train_examples, len(splits.train))) < self.neighbours:
            raise UserError(f"neighbours={self.neighbours} of {known} training examples: give {known} or fewer")

    def evaluate(self, subject: Subject) -> Findings:
        """`test/ood/<set>/<score>/<metric>`, `test/shift/<name>/<score>/<metric>`, `test/failures/<score>/<metric>`.

        After a calibrator `test/<calibrator>/…`. Of OOD sets also `test/ood/<set>/confidence`, the mean probability of
        the predicted class, and `test/ood/<set>/confident`, the share of examples in which it is above 0.9.
        """
        of_features, fitted_to = fitted(subject, self.neighbours, self.train_examples)
        test = judged(subject, TEST, subject.splits.test, of_features)
        sets = {name: judged(subject, name, data, of_features) for name, data in subject.splits.ood.items()}
        shifts = {name: judged(subject, name, data, of_features) for name, data in subject.splits.shifts.items()}
        semantic = [against("ood", name, test, strange) for name, strange in sets.items()]
        covariate = [against("shift", name, test, strange) for name, strange in shifts.items()]
        wrong = failures(test)
        found = [*semantic, *wrong, *covariate]
        tables = {f"{TEST}-{comparison.kind}-{comparison.name}": comparison.table() for comparison in semantic}
        tables |= {f"{TEST}-failures": comparison.table() for comparison in wrong}
        if covariate:
            tables[f"{TEST}-shift"] = by_shift(covariate, {name: shift[TEST] for name, shift in shifts.items()})
        told = Findings(
            {name: value for comparison in found for name, value in comparison.metrics().items()},
            {f"{TEST}-ood": Roc(TEST, tuple(comparison.panel() for comparison in found[:MOST_PANELS]))},
            tables,
            notes=(fitted_to, *(() if wrong else ("There are no failures on test to detect.",))),
            meanings=score_meanings(of_features) | column_meanings(found),
        )
        return Findings.merged([told, confidence_on(sets)])
