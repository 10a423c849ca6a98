"""What selective prediction comes to, as tables, and how its scores are called."""

from collections.abc import Iterable, Mapping

from poise.evaluation.ranked import Key
from poise.meanings import meaning
from poise.metrics import AreaUnderGeneralisedRiskCoverage, AreaUnderRiskCoverage
from poise.scores import TEST, Row, Table
from poise.uncertainty.class_centroids import ClassCentroids
from poise.uncertainty.msp import msp

Values = Mapping[Key, Mapping[str, float]]  # metrics of each score

CENTROID: Key = ("", "centroid")
AGREED = "centroid agrees"
HEADINGS = {
    "aurc": "AURC",
    "augrc": "AUGRC",
    "coverage_at_risk": "best",
    "threshold": "given where",
    "coverage": "coverage",
    "risk": "risk",
    "risk_bound": "promised",
}


def path(split: str, key: Key) -> str:
    """What metrics of a score begin with."""
    alias, score = key
    return "/".join(filter(None, (split, alias, "selective", score)))


def told(key: Key) -> str:
    """A score as tables and remarks call it."""
    alias, score = key
    return f"{score}, {alias}" if alias else score


def after_calibration(key: Key) -> bool:
    """Whether a score is of what a calibrator gives."""
    return bool(key[0])


def meanings(keys: Iterable[Key]) -> dict[str, str]:
    """What scores, areas and the line of centroids that agree are, in a line each."""
    scores = {"msp": msp, "centroid": ClassCentroids}
    areas = {"AURC": AreaUnderRiskCoverage, "AUGRC": AreaUnderGeneralisedRiskCoverage}
    named = {score: meaning(scores[score]) for _, score in keys}
    agreed = {AGREED: "Those answers alone that the nearest class mean agrees with"} if "centroid" in named else {}
    return named | agreed | {name: meaning(what) for name, what in areas.items()}


def on_test(values: Values, examples: int, target: float, alpha: float) -> Table:
    """A line for each score.

    Args:
        values: metrics of each score.
        examples: of test.
        target: risk that is not to be exceeded.
        alpha: probability, at most, that it is.
    """
    rows = [Row(told(key), _cells(own, examples, key)) for key, own in values.items()]
    if CENTROID in values:
        agreed = {name: values[CENTROID].get(f"{name}_where_agreed") for name in ("coverage", "risk")}
        known = {name: value for name, value in agreed.items() if value is not None}
        rows.append(Row(AGREED, _cells(known, examples)))
    asked = f"{100 * target:g} %"
    note = (
        f"best: the largest coverage with a risk of {asked} or less, in hindsight; given where: by a threshold on the "
        "probability, or on the score of centroids, that calibration examples chose; coverage: share of answers given; "
        "risk: share of wrong ones among them, of how many; promised: the risk of examples like those of calibration "
        f"is no more, with a probability of {100 * (1 - alpha):g} %, nothing after a calibrator, which was fitted to "
        "these examples; where no threshold will do no answer is given"
    )
    return Table(f"{TEST}, selective prediction, risk target {asked}", ("score", *HEADINGS.values()), tuple(rows), note)


def by_split(values: Mapping[str, Values], target: float) -> Table:
    """Coverage and risk of uncalibrated scores on test and on each shift, at the thresholds chosen."""
    keys = [key for key in values[TEST] if not key[0]]
    rows = (
        Row(split, tuple(_shown(name, by[key].get(name)) for key in keys for name in ("coverage", "risk")))
        for split, by in values.items()
    )
    headings = ("split", *(f"{score}: {name}" for _, score in keys for name in ("coverage", "risk")))
    title = f"shifts, selective prediction, risk target {100 * target:g} %"
    return Table(title, headings, tuple(rows), "of shifts nothing is promised")


def _cells(own: Mapping[str, float], examples: int, key: Key = CENTROID) -> tuple[str, ...]:
    shown = {name: _shown(name, own.get(name), key) for name in HEADINGS}
    if "risk" in own:
        shown["risk"] += f" of {round(own['coverage'] * examples):,}"
    return tuple(shown.values())


def _shown(name: str, value: float | None, key: Key = CENTROID) -> str:
    if value is None:
        return ""
    if name == "threshold":
        return f"{'<' if key == CENTROID else '>'} {value:.4f}"
    return f"{value:.4f}" if name in ("aurc", "augrc") else f"{100 * value:.2f} %"
