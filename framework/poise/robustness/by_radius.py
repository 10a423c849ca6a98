"""Accuracy under attack over the radius, and the law by which errors grow."""

from collections.abc import Iterator, Mapping

from poise.attacks.threat import Threat
from poise.batch import Predictions
from poise.evaluator import Findings, Subject
from poise.figures.radius import Radius
from poise.robustness.power_law import PowerLaw, power_law
from poise.scores import UNCALIBRATED


def by_radius(subject: Subject, split: str, attack: str, at: Mapping[float, Predictions]) -> Findings:
    """`<split>/robust_accuracy/<attack>/radius/<multiple of eps>`, `<split>/power_law/<attack>/…` and a figure.

    Args:
        subject: the model under evaluation.
        split: the name of the data's split.
        attack: its name.
        at: predictions on the same examples, attacked within each multiple of the threat's eps; 0 is among them.
    """
    curves: dict[str, dict[float, float]] = {}
    for radius, seen in sorted(at.items()):
        for prefix, column in subject.columns(split, seen):
            curves.setdefault(prefix, {})[radius] = float(column.right.double().mean())
    metrics = {
        f"{prefix}/robust_accuracy/{attack}/radius/{radius:g}": accuracy
        for prefix, curve in curves.items()
        for radius, accuracy in curve.items()
    }
    errors = _errors(at)
    radii = [radius * subject.threat.eps for radius in errors]
    law = power_law(radii, list(errors.values()))
    metrics |= {f"{split}/power_law/{attack}/{name}": value for name, value in _told(law)}
    drawing = _drawing(subject.threat, split, attack, curves, tuple(errors.values()), law, len(at[0.0].index))
    notes = () if law is None else (_said(law, split, attack),)
    return Findings(metrics, {f"{split}-{attack}-accuracy-by-radius": drawing}, notes=notes)


def _errors(at: Mapping[float, Predictions]) -> dict[float, float]:
    """At each radius the share of examples that the attack makes wrong, of those that are right as they are."""
    right = at[0.0].right
    count = max(int(right.sum()), 1)
    return {radius: int((right & ~seen.right).sum()) / count for radius, seen in sorted(at.items())}


def _told(law: PowerLaw | None) -> Iterator[tuple[str, float]]:
    if law is not None:
        yield from (("factor", law.factor), ("exponent", law.exponent), ("r2", law.r2))
        yield from (("from", law.low), ("to", law.high), ("radii", float(law.radii)))


def _said(law: PowerLaw, split: str, attack: str) -> str:
    return (
        f"Errors by {attack} on {split} grow as {law.factor:.3g} · radius^{law.exponent:.2f} (R² {law.r2:.3f}), fitted "
        f"to {law.radii} radii from {law.low:.3g} to {law.high:.3g}."
    )


def _drawing(
    threat: Threat,
    split: str,
    attack: str,
    curves: Mapping[str, Mapping[float, float]],
    errors: tuple[float, ...],
    law: PowerLaw | None,
    examples: int,
) -> Radius:
    names = [prefix.removeprefix(split).strip("/") or UNCALIBRATED for prefix in curves]
    return Radius(
        split=split,
        attack=attack,
        norm=threat.norm,
        eps=threat.eps,
        radii=tuple(radius * threat.eps for radius in curves[split]),
        columns=tuple((name, tuple(curve.values())) for name, curve in zip(names, curves.values(), strict=True)),
        examples=examples,
        errors=errors,
        law=law,
    )
