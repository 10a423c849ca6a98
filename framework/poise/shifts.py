"""What named shifts say together."""

from collections.abc import Iterator, Mapping

from poise.data.dataset import Arrays
from poise.evaluator import Findings
from poise.figures.parts import Measure, Parts
from poise.scores import SHIFTS, is_of_part


def with_means(found: Mapping[str, Findings], shifts: Mapping[str, Arrays]) -> Findings:
    """All findings, and of those of named shifts the mean of every score that each has, and bars of their accuracy.

    Args:
        found: by split, with metrics `<split>/<metric>` and `<split>/<calibrator>/<metric>`, accuracy among them.
        shifts: the named shifts of the data, whether they were looked at or not.
    """
    seen = [name for name in shifts if name in found]
    if not seen:
        return Findings.merged(found.values())
    scores = [dict(_scores(name, found[name].metrics)) for name in seen]
    common = [name for name in scores[0] if all(name in others for others in scores)]
    means = {f"{SHIFTS}/{name}": sum(others[name] for others in scores) / len(scores) for name in common}
    accuracy = Measure("clean", tuple(others["accuracy"] for others in scores), means[f"{SHIFTS}/accuracy"])
    bars = Parts(SHIFTS, "shift", tuple(seen), tuple(len(shifts[name]) for name in seen), (accuracy,))
    return Findings.merged([*found.values(), Findings(means, {f"{SHIFTS}-accuracy-by-shift": bars})])


def _scores(shift: str, metrics: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Scores of whole shifts, without the shift's name."""
    for full, value in metrics.items():
        name = full.removeprefix(f"{shift}/")
        if not is_of_part(name):
            yield name, value
