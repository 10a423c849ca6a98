"""Sets of labels that hold the true one with a probability that is chosen."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from poise.conformal import robust
from poise.conformal.measures import Measured
from poise.conformal.robust import check_beta
from poise.conformal.rules import meanings
from poise.conformal.threshold import fewest, rank, spread
from poise.conformal.told import AS_THEY_ARE, Inputs, Told, metrics, shift_table, sizes, table
from poise.data.dataset import Arrays, Splits
from poise.errors import UserError
from poise.evaluation.plain_sets import Halves, PlainSets
from poise.evaluation.set_attack import SetAttack
from poise.evaluation.smoothed_sets import HELD_OUT, Smoothing
from poise.evaluation.votes import evenly_spread
from poise.evaluator import Evaluator, Findings, Subject
from poise.figures.set_sizes import SetSizes
from poise.meanings import meaning
from poise.predictions import predict
from poise.scores import SHIFTS, TEST, UNCALIBRATED, Table

FEWEST = 2  # examples that a calibrator can be fitted to
UNLIKELY = 1e-4  # of a coverage so low where examples are exchangeable
MANY = 0.5  # of the sets: where so many have all labels, they say little


class Conformal(Evaluator):
    """Conformal prediction: in place of a class a set of labels, which holds the true one in a share of 1 - alpha.

    That holds for any model, of examples that are exchangeable with the calibration split: on test, hardly ever on
    shifts, and not under attack. `lac` has the smallest sets, `aps` larger ones for harder examples, `raps` cuts their
    tail off, and `class_conditional` is LAC with a threshold for each class, so that coverage holds in every one.
    Random numbers of APS and RAPS are keyed by (seed, position); sets may be empty.

    With `attacked` the same is told of test examples under PGD on the cross-entropy of the model, inside the run's
    threat, and these sets lose coverage. Under an ℓ2 threat `rscp_plus` is told as well, RSCP+ with PTT: sets from the
    scores of noisy copies of an input, which keep coverage whatever an attacker does inside the ball. Where the network
    was not trained in noise of the same σ they hold nearly all labels. They are attacked by PGD on what they are made
    of, the mean over noise, as `poise.evaluation.set_attack` says. All attacks see the uncalibrated model, and go on
    where an example is predicted wrong.

    A random half of the calibration split sets thresholds and does nothing else. To the other half RAPS and PTT are
    fitted, and copies of the calibrators: those that the run ships were fitted to all, so by them nothing would hold.

    Sources: Sadinle et al., 2019, arXiv 1609.00451 (LAC); Romano et al., 2020, arXiv 2006.02544 (APS); Angelopoulos et
    al., 2021, arXiv 2009.14193 (RAPS); Vovk, 2012, arXiv 1209.2673 (by class); Yan et al., 2024, arXiv 2404.19651
    (RSCP+, PTT). `poise.conformal` has them on arrays, and says where they differ from the authors' code.

    Cost: the passes of the calibration split and of the test sets. With `attacked` `steps` gradients of each attacked
    example; of RSCP+ `copies` passes of each of 3 · `smoothed_examples` examples, and `steps · attack_copies` gradients
    of each of `smoothed_examples`.

    Args:
        alpha: share of the sets, at most, without the true label.
        attacked: whether inputs are attacked as well.
        steps: of PGD, gradients of one random start.
        attacked_examples: of test, evenly spread, that are attacked.
        smoothed_examples: of test, evenly spread, and of calibration, that RSCP+ is made of.
        sigma: of the noise, in input units; twice the threat's eps if None, as published.
        copies: noisy ones of each example.
        attack_copies: noisy ones of each example by which RSCP+ is attacked; 256 as published; 16 do nearly as much.
        beta: probability, at most, that a bound on the mean over copies fails; twice that is taken off alpha.
    """

    def __init__(
        self,
        alpha: Annotated[float, Gt(0), Lt(1)] = 0.1,
        attacked: bool = False,
        steps: Annotated[int, Ge(1)] = 20,
        attacked_examples: Annotated[int, Ge(1)] = 1000,
        smoothed_examples: Annotated[int, Ge(1)] = 200,
        sigma: Annotated[float, Gt(0)] | None = None,
        copies: Annotated[int, Ge(2)] = 256,
        attack_copies: Annotated[int, Ge(1)] = 16,
        beta: Annotated[float, Gt(0), Lt(1)] = 0.001,
    ) -> None:
        self.alpha = alpha
        self.attacked = attacked
        self.steps = steps
        self.attacked_examples = attacked_examples
        self.smoothed_examples = smoothed_examples
        self.sigma = sigma
        self.copies = copies
        self.attack_copies = attack_copies
        self.beta = beta
        if attacked:
            check_beta(alpha, beta)
            self._check_smoothed()

    def check(self, splits: Splits) -> None:
        """Raises UserError where the calibration split is too small to set a threshold by half of it."""
        needed = 2 * max(FEWEST, fewest(self._least_alpha))
        size = len(splits.calibration)
        if size < needed:
            raise UserError(
                f"alpha={self.alpha:g} takes {needed} calibration examples, half of them to set thresholds by, and "
                f"there are {size}: give more by data.calibration, raise alpha"
            )

    def evaluate(self, subject: Subject) -> Findings:
        """`<split>/conformal/<rule>/<measure>` before calibration, `<split>/<calibrator>/conformal/…` after it.

        Of attacked inputs `test/conformal/<attack>/<rule>/<measure>`, where attacks are `pgd-<steps>` and of RSCP+
        `smoothed-pgd-<steps>`, and beside them `test/conformal/<attack>/eps_<norm>`, `…/steps` and, of noise,
        `…/attack_sigma` and `…/attack_copies`. Measures are those of `Measured.metrics`.
        """
        self.check(subject.splits)
        halves = Halves.of(subject)
        made = PlainSets.fitted(subject, halves, self.alpha)
        sets = {split: {AS_THEY_ARE: self._clean(subject, made, split, data)} for split, data in subject.tests()}
        note, doubts = self._rows(subject, halves, made), self._unlike(sets[TEST][AS_THEY_ARE][0].measured, halves)
        shifts = {split: by_inputs[AS_THEY_ARE] for split, by_inputs in sets.items() if split != TEST}
        tables = {f"{SHIFTS}-conformal": shift_table(shifts, self.alpha)} if shifts else {}
        further = [Findings(tables=tables, notes=(note,), doubts=doubts, meanings=meanings())]
        if self.attacked:
            more, said = self._under_attack(subject, halves, made)
            on_test = sets[TEST]
            sets[TEST] = {inputs: on_test.get(inputs, []) + more.get(inputs, []) for inputs in on_test | more}
            further.append(said)
        least, _ = spread(len(halves.setting), self.alpha)
        return Findings.merged([*(self._told(split, by_inputs, least) for split, by_inputs in sets.items()), *further])

    @property
    def _least_alpha(self) -> float:
        """The share that the strictest threshold leaves."""
        return self.alpha - 2 * self.beta * self.attacked

    def _check_smoothed(self) -> None:
        needed = fewest(self._least_alpha)
        if self.smoothed_examples < needed:
            raise UserError(
                f"smoothed_examples={self.smoothed_examples} set no threshold at alpha={self.alpha:g}: it takes "
                f"{needed} or more."
            )

    def _clean(self, subject: Subject, made: PlainSets, split: str, data: Arrays) -> list[Told]:
        """The sets of a split's examples as they are."""
        seen = predict(subject.model, data, subject.ranks, batch_size=subject.batch_size)
        return list(made.told(split, seen, seen.index))

    def _under_attack(
        self, subject: Subject, halves: Halves, made: PlainSets
    ) -> tuple[dict[Inputs, list[Told]], Findings]:
        """Further sets of test examples, those that are to withstand an attack also of examples as they are."""
        if not subject.threat.eps:
            return {}, Findings(notes=("No sets were attacked: the threat's eps is 0.",))
        attacked = self._attacked(subject, made)
        smoothed, said = self._robust(subject, halves)
        return attacked | {inputs: [one] for inputs, one in smoothed.items()}, said

    def _attacked(self, subject: Subject, made: PlainSets) -> dict[Inputs, list[Told]]:
        """The sets of attacked test examples."""
        attack = SetAttack(subject.threat, self.steps)
        some = evenly_spread(subject, self.attacked_examples)
        with subject.progress(f"attack {TEST}", len(some)) as done:
            data, found = subject.splits.test.rows(some), attack.on(subject.seed, some, subject.batch_size)
            seen = predict(subject.model, data, subject.ranks, found, subject.batch_size, done)
        return {_inputs(attack): list(made.told(TEST, seen, some))}

    def _robust(self, subject: Subject, halves: Halves) -> tuple[dict[Inputs, Told], Findings]:
        """RSCP+ on test examples as they are and as an attack on it leaves them, and what is said of it."""
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
        attack = SetAttack(threat, self.steps, sigma, self.attack_copies)
        attacks = {AS_THEY_ARE: None, _inputs(attack): attack.on(subject.seed, some, subject.batch_size)}
        sets = {
            inputs: Told(TEST, "", "rscp_plus", Measured.of(rule.sets(data, some, found), labels, groups))
            for inputs, found in attacks.items()
        }
        note = (
            f"RSCP+ with PTT: coverage within l2 radius {threat.eps:g} of the examples, sigma = {sigma:g}, "
            f"{self.copies:,} copies, beta = {self.beta:g}; {len(setting):,} calibration examples set its threshold, "
            f"{len(tuning):,} others rank scores; {len(some):,} test examples, attacked through "
            f"{self.attack_copies:,} copies."
        )
        doubts = _full(sets[AS_THEY_ARE].measured, sigma)
        return sets, Findings(notes=(note,), doubts=doubts, meanings={"rscp_plus": meaning(robust)})

    def _told(self, split: str, by_inputs: Mapping[Inputs, Sequence[Told]], least: float) -> Findings:
        """Numbers, tables and the figure of a split; `least` is what `table` takes."""
        values: dict[str, float] = {}
        shown: dict[str, Table] = {}
        for inputs, sets in by_inputs.items():
            values |= metrics(sets, split, inputs, self.alpha)
            if split == TEST:
                name = "-".join(filter(None, (split, "conformal", inputs.name)))
                shown[name] = table(sets, split, inputs, self.alpha, least)
        clean = "as they are" if len(by_inputs) > 1 else ""
        drawn = tuple((inputs.name or clean, sizes(sets)) for inputs, sets in by_inputs.items())
        return Findings(values, {f"{split}-conformal-sizes": SetSizes(split, self.alpha, drawn)}, shown)

    def _rows(self, subject: Subject, halves: Halves, made: PlainSets) -> str:
        """Which rows did what, as a remark."""
        told = (
            f"Conformal sets at alpha = {self.alpha:g}: {len(halves.setting):,} examples, a random half of the "
            f"calibration split, set thresholds; to the other {len(halves.fitting):,} copies of the calibrators are "
            f"fitted, and RAPS is tuned on them. {_spread(len(halves.setting), self.alpha)} {_of_raps(made)}"
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


def _spread(examples: int, alpha: float) -> str:
    """What so few examples leave to chance, in a sentence."""
    low, high = (f"{100 * end:.1f}" for end in spread(examples, alpha))
    return f"By a threshold from {examples:,} examples coverage comes to between {low} and {high} % in 95 % of cases."


def _of_raps(made: PlainSets) -> str:
    """What RAPS was tuned to, in a sentence."""
    chosen = "; ".join(
        f"{settled} ({', '.join(name or UNCALIBRATED for name in columns)})"
        for settled, columns in made.settled("raps").items()
    )
    return f"RAPS: {chosen}."


def _inputs(attack: SetAttack) -> Inputs:
    return Inputs(attack.name, attack.settings, str(attack))


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
