"""What named shifts say together."""

from collections.abc import Iterator, Mapping

from poise.evaluator import Findings
from poise.figures.parts import Measure, Parts
from poise.scores import SHIFTS, is_of_part


def shifted(metrics: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int]) -> Findings:
    """The mean over shifts of every score that all of them have, and bars of the accuracy on each.

    Args:
        metrics: of each shift by name, flat, `<shift>/<metric>` and `<shift>/<calibrator>/<metric>`.
        sizes: examples of each shift.
    """
    if not metrics:
        return Findings()
    scores = [dict(_scores(name, found)) for name, found in metrics.items()]
    common = [name for name in scores[0] if all(name in found for found in scores)]
    means = {f"{SHIFTS}/{name}": sum(found[name] for found in scores) / len(scores) for name in common}
    accuracy = Measure("clean", tuple(found["accuracy"] for found in scores), means[f"{SHIFTS}/accuracy"])
    bars = Parts(SHIFTS, "shift", tuple(metrics), tuple(sizes[name] for name in metrics), (accuracy,))
    return Findings(means, {f"{SHIFTS}-accuracy-by-shift": bars})


def _scores(shift: str, metrics: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Scores of whole shifts, without the shift's name."""
    for full, value in metrics.items():
        name = full.removeprefix(f"{shift}/")
        if not is_of_part(name):
            yield name, value
