"""What attacks leave, as numbers, tables and bars."""

from collections.abc import Iterator, Sequence

from poise.attacks.work import Work
from poise.batch import Predictions
from poise.breakdown import breakdowns
from poise.data.dataset import Arrays
from poise.evaluator import Findings, Subject
from poise.metrics.summary import summarised
from poise.robustness.left import Left
from poise.scores import Row, Table

UNDER_ATTACK = ("nll", "ece")  # told of attacked inputs too


def scored(subject: Subject, split: str, data: Arrays, clean: Predictions, left: Left) -> Findings:
    """Robust accuracy as a whole, by class and by group, NLL and ECE under attack, before and after each calibrator."""
    measure = f"robust_accuracy/{left.attack}"
    parts = list(breakdowns(subject.splits, data))
    metrics: dict[str, float] = {}
    for prefix, column in subject.columns(split, clean):
        metrics[f"{prefix}/accuracy"] = float(column.right.double().mean())
    for prefix, column in subject.columns(split, left.seen):
        right = left.right_as(column)
        metrics[f"{prefix}/{measure}"] = float(right.double().mean())
        for breakdown in parts:
            metrics |= breakdown.metrics(prefix, measure, right)
        summary = summarised(column.logits, column.label).scores
        metrics |= {f"{prefix}/robust_{name}/{left.attack}": summary[name] for name in UNDER_ATTACK if name in summary}
    for attack, survived in left.after.items():
        metrics[f"{split}/{measure}/{attack}"] = float(survived.double().mean())
    right_by_attack = {"clean": clean.right, left.attack: left.right}
    bars = {f"{split}-{left.attack}-accuracy-by-{p.kind}": p.drawing(split, **right_by_attack) for p in parts}
    return Findings(metrics, dict(bars))


def costs(split: str, lefts: Sequence[Left]) -> Findings:
    """What each attack cost an example: passes as numbers, and with the time, which no two runs share, as a table."""
    metrics: dict[str, float] = {}
    rows: list[Row] = []
    for left in lefts:
        examples = len(left.right)
        metrics[f"{split}/attack_passes/{left.attack}/forward"] = left.work.forwards / examples
        metrics[f"{split}/attack_passes/{left.attack}/gradient"] = left.work.backwards / examples
        for attack, survived in left.after.items():
            rows.append(_row(f"… {attack}", float(survived.double().mean()), left.works[attack], examples))
        rows.append(_row(left.attack, float(left.right.double().mean()), left.work, examples))
    headings = ("attack", "still right", "forward passes", "gradients", "milliseconds")
    note = "passes and time are means over all examples, those included that an attack had no need to try"
    return Findings(metrics, tables={f"{split}-attacks": Table(f"{split}, attacks", headings, tuple(rows), note)})


def _row(name: str, right: float, work: Work, examples: int) -> Row:
    return Row(name, (f"{100 * right:.2f} %", *_each(work, examples)))


def _each(work: Work, examples: int) -> Iterator[str]:
    yield f"{work.forwards / examples:,.1f}"
    yield f"{work.backwards / examples:,.1f}"
    yield f"{1e3 * work.seconds / examples:,.3g}"
