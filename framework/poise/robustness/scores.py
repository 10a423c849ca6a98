"""What attacks leave, as numbers, tables and bars."""

from collections.abc import Iterator, Sequence

from jaxtyping import Bool
from torch import Tensor

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
    under = f"under {left.attack}, {subject.threat}"
    meanings = {measure: f"Share of examples that are right and stay so {under}"}
    meanings |= {f"robust_{name}/{left.attack}": f"The {name} {under}" for name in UNDER_ATTACK}
    for breakdown in parts:
        meanings |= breakdown.meanings(measure)
    return Findings(metrics, dict(bars), meanings=meanings)


def costs(split: str, lefts: Sequence[Left]) -> Findings:
    """What each attack, and each of attacks in a row, cost an example in passes and in time: numbers, and a table."""
    metrics: dict[str, float] = {}
    times: dict[str, float] = {}
    rows: list[Row] = []
    for name, row, right, work in (each for left in lefts for each in _attacks(left)):
        forward, gradient, milliseconds = (
            total / len(right) for total in (work.forwards, work.backwards, 1e3 * work.seconds)
        )
        metrics[f"{split}/attack_passes/{name}/forward"] = forward
        metrics[f"{split}/attack_passes/{name}/gradient"] = gradient
        times[f"{split}/attack_milliseconds/{name}"] = milliseconds
        share = f"{100 * float(right.double().mean()):.2f} %"
        time = f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
        rows.append(Row(row, (share, f"{forward:,.1f}", f"{gradient:,.1f}", time)))
    headings = ("attack", "still right", "forward passes", "gradients", "milliseconds")
    note = "passes and time are means over all examples, those included that an attack had no need to try"
    table = Table(f"{split}, attacks", headings, tuple(rows), note)
    return Findings(metrics, tables={f"{split}-attacks": table}, times=times)


def _attacks(left: Left) -> Iterator[tuple[str, str, Bool[Tensor, " N"], Work]]:
    """Of each part and then of the whole: its metrics' name, its row's, what withstood it, and what it cost."""
    for part, right in left.after.items():
        yield f"{left.attack}/{part}", f"… {part}", right, left.works[part]
    yield left.attack, left.attack, left.right, left.work
