"""Sets of labels that hold the true one with a probability that is chosen."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from poise.attacks.pgd import PGD
from poise.conformal.measures import Measured
from poise.conformal.robust import check_beta
from poise.conformal.threshold import fewest, rank
from poise.conformal.told import Told, metrics, shift_tables, sizes, tables
from poise.data.dataset import Arrays, Splits
from poise.errors import UserError
from poise.evaluation.plain_sets import Halves, PlainSets
from poise.evaluation.smoothed_sets import HELD_OUT, Smoothing
from poise.evaluation.votes import evenly_spread
from poise.evaluator import Evaluator, Findings, Subject
from poise.figures.set_sizes import SetSizes
from poise.predictions import predict
from poise.robustness.left import attacking
from poise.scores import TEST, Table

FEWEST = 2  # examples that a calibrator can be fitted to
UNLIKELY = 1e-4  # of a coverage so low where examples are exchangeable
MANY = 0.5  # of the sets: where so many have all labels, they say little
CLEAN = "as they are"


class Conformal(Evaluator):
    """Conformal prediction: in place of a class a set of labels, which holds the true one in a share of 1 - alpha.

    That holds for any model, of examples that are exchangeable with the calibration split: on test, hardly ever on
    shifts, and not under attack. `lac` has the smallest sets, `aps` larger ones for harder examples, `raps` cuts their
    tail off, and `class_conditional` is LAC with a threshold for each class, so that coverage holds in every one.
    Random numbers of APS and RAPS are keyed by (seed, position); sets may be empty.

    Test examples are attacked by PGD on the cross-entropy of the model, inside the run's threat, and these sets lose
    coverage. Under an ℓ2 threat `rscp_plus` is told as well, RSCP+ with PTT: sets from the scores of noisy copies of an
    input, which keep coverage whatever an attacker does inside the ball. Where the network was not trained in noise of
    the same σ they hold nearly all labels.

    A random half of the calibration split sets thresholds and does nothing else. To the other half RAPS and PTT are
    fitted, and copies of the calibrators: those that the run ships were fitted to all, so by them nothing would hold.

    Sources: Sadinle et al., 2019, arXiv 1609.00451 (LAC); Romano et al., 2020, arXiv 2006.02544 (APS); Angelopoulos et
    al., 2021, arXiv 2009.14193 (RAPS); Vovk, 2012, arXiv 1209.2673 (by class); Yan et al., 2024, arXiv 2404.19651
    (RSCP+, PTT). `poise.conformal` has them on arrays, and says where they differ from the authors' code.

    Cost: `steps` gradients for each attacked example; `copies` passes for each of 3 · `smoothed_examples` examples.

    Args:
        alpha: share of the sets, at most, without the true label.
        steps: of PGD, gradients.
        attacked_examples: of test, evenly spread, that are attacked.
        smoothed_examples: of test, evenly spread, and of calibration, that RSCP+ is made of.
        sigma: of the noise, in input units; twice the threat's eps if None, as published.
        copies: noisy ones of each example.
        beta: probability, at most, that a bound on the mean over copies fails; twice that is taken off alpha.
    """

    def __init__(
        self,
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.1,
        steps: Annotated[int, Ge(1)] = 20,
        attacked_examples: Annotated[int, Ge(1)] = 1000,
        smoothed_examples: Annotated[int, Ge(1)] = 200,
        sigma: Annotated[float, Gt(0)] | None = None,
        copies: Annotated[int, Ge(2)] = 256,
        beta: Annotated[float, Gt(0), Lt(1)] = 0.001,
    ) -> None:
        check_beta(alpha, beta)
        needed = fewest(alpha - 2 * beta)
        if smoothed_examples < needed:
            raise UserError(
                f"smoothed_examples={smoothed_examples} set no threshold at alpha={alpha:g}: it takes {needed} or more."
            )
        self.alpha = alpha
        self.steps = steps
        self.attacked_examples = attacked_examples
        self.smoothed_examples = smoothed_examples
        self.sigma = sigma
        self.copies = copies
        self.beta = beta

    def check(self, splits: Splits) -> None:
        """Raises UserError where the calibration split is too small to set a threshold by half of it."""
        needed = 2 * max(FEWEST, fewest(self.alpha - 2 * self.beta))
        size = len(splits.calibration)
        if size < needed:
            raise UserError(
                f"alpha={self.alpha:g} takes {needed} calibration examples, half of them to set thresholds by, and "
                f"there are {size}: give more by data.calibration, raise alpha"
            )

    def evaluate(self, subject: Subject) -> Findings:
        """`<split>/conformal/<rule>/<measure>` before calibration, `<split>/<calibrator>/conformal/…` after it.

        Of attacked inputs `test/conformal/pgd-<steps>/<rule>/<measure>`. Measures are those of `Measured.metrics`.
        """
        self.check(subject.splits)
        halves = Halves.of(subject)
        made = PlainSets.fitted(subject, halves, self.alpha)
        sets = {split: {CLEAN: self._clean(subject, made, split, data)} for split, data in subject.tests()}
        note, doubts = self._rows(subject, halves, made), self._unlike(sets[TEST][CLEAN][0].measured, halves)
        shifts = {split: by_inputs[CLEAN] for split, by_inputs in sets.items() if split != TEST}
        further = [Findings(tables=shift_tables(shifts, self.alpha), notes=(note,), doubts=doubts)]
        if subject.threat.eps:
            sets[TEST][self._name] = self._attacked(subject, made)
            robust, told = self._robust(subject, halves)
            for inputs, one in robust.items():
                sets[TEST][inputs].append(one)
            further.append(told)
        return Findings.merged([*(self._told(split, by_inputs) for split, by_inputs in sets.items()), *further])

    @property
    def _name(self) -> str:
        """Of the attack."""
        return f"pgd-{self.steps}"

    def _clean(self, subject: Subject, made: PlainSets, split: str, data: Arrays) -> list[Told]:
        """The sets of a split's examples as they are."""
        seen = predict(subject.model, data, subject.ranks, batch_size=subject.batch_size)
        return list(made.told(split, seen, seen.index))

    def _attacked(self, subject: Subject, made: PlainSets) -> list[Told]:
        """The sets of attacked test examples."""
        some = evenly_spread(subject, self.attacked_examples)
        attack = attacking(PGD(subject.threat, self.steps), subject.seed, some)
        with subject.progress(f"attack {TEST}", len(some)) as done:
            data = subject.splits.test.rows(some)
            seen = predict(subject.model, data, subject.ranks, attack, subject.batch_size, done)
        return list(made.told(TEST, seen, some))

    def _robust(self, subject: Subject, halves: Halves) -> tuple[dict[str, Told], Findings]:
        """RSCP+ on test examples as they are and as the attack leaves them, and what is said of it."""
        threat = subject.threat
        if threat.norm != "l2":
            told = "RSCP+ keeps coverage in l2 balls: with threat=l2 conformal tells of it too."
            return {}, Findings(notes=(told,))
        sigma = 2 * threat.eps if self.sigma is None else self.sigma
        smoothing = Smoothing(self.alpha, threat.eps, sigma, self.copies, self.beta)
        tuning, setting = halves.fitting[:HELD_OUT], halves.setting[: self.smoothed_examples]
        rule = smoothing.fitted(subject, tuning, setting)
        some = evenly_spread(subject, self.smoothed_examples)
        data = subject.splits.test.rows(some)
        labels, groups = data.label.cpu(), None if data.group is None else data.group.cpu()
        attacks = {CLEAN: None, self._name: attacking(PGD(threat, self.steps), subject.seed, some)}
        sets = {
            inputs: Told(TEST, "", "rscp_plus", Measured.of(rule.sets(data, some, attack), labels, groups))
            for inputs, attack in attacks.items()
        }
        note = (
            f"RSCP+ with PTT: coverage within l2 radius {threat.eps:g} of the examples, sigma = {sigma:g}, "
            f"{self.copies:,} copies, beta = {self.beta:g}; {len(setting):,} calibration examples set its threshold, "
            f"{len(tuning):,} others rank scores; {len(some):,} test examples. The attack sees the model without noise."
        )
        return sets, Findings(notes=(note,), doubts=_full(sets[CLEAN].measured, sigma))

    def _told(self, split: str, by_inputs: Mapping[str, Sequence[Told]]) -> Findings:
        """Numbers, tables and the figure of a split."""
        values: dict[str, float] = {}
        shown: dict[str, Table] = {}
        for inputs, sets in by_inputs.items():
            attack = "" if inputs == CLEAN else inputs
            values |= metrics(sets, attack, self.alpha)
            shown |= tables(sets, split, attack, self.alpha) if split == TEST else {}
        drawing = SetSizes(split, self.alpha, tuple((inputs, sizes(sets)) for inputs, sets in by_inputs.items()))
        return Findings(values, {f"{split}-conformal-sizes": drawing}, shown)

    def _rows(self, subject: Subject, halves: Halves, made: PlainSets) -> str:
        """Which rows did what, as a remark."""
        told = (
            f"Conformal sets at alpha = {self.alpha:g}: {len(halves.setting):,} examples, a random half of the "
            f"calibration split, set thresholds; to the other {len(halves.fitting):,} copies of the calibrators are "
            "fitted, and RAPS is tuned on them."
        )
        rare = int(made.rules[0]["class_conditional"].most.isinf().sum())
        if not rare:
            return told
        few = f"{rare} of {len(subject.splits.class_names)} classes have fewer than {fewest(self.alpha)} of those"
        return f"{told} {few}, so their labels are in every set of class_conditional."

    def _unlike(self, measured: Measured, halves: Halves) -> tuple[str, ...]:
        """A doubt where coverage on test is so low that its examples cannot be like those of the calibration split."""
        from scipy.stats import betabinom

        held, tests = len(halves.setting), len(measured.covered)
        place = rank(held, self.alpha)
        if betabinom.cdf(int(measured.covered.sum()), tests, place, held + 1 - place) >= UNLIKELY:
            return ()
        return (
            f"conformal sets (lac) hold the true label of {100 * measured.coverage:.1f} % of test, where calibration "
            f"examples promise {100 * (1 - self.alpha):g} %: the two are not of the same kind, or the model was "
            "trained on the calibration split",
        )


def _full(measured: Measured, sigma: float) -> tuple[str, ...]:
    """A doubt where sets of RSCP+ say little."""
    full = float((measured.sizes == measured.num_classes).double().mean())
    if full < MANY:
        return ()
    return (
        f"{100 * full:.1f} % of the sets of RSCP+ are of all labels: the network was hardly trained on inputs in noise "
        f"of sigma={sigma:g}. Train it on such, set evaluation.conformal.sigma to the noise that it was trained with, "
        "or raise evaluation.conformal.copies",
    )
