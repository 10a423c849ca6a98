"""A sweep as people read it: what has become of each run, and what those came to that have finished."""

import math
import re
from collections.abc import Mapping
from statistics import mean, stdev

from poise.listing import rendered
from poise.sweep import Sweep

SEED = "seed"
_ACCURACY = re.compile(r"test/((?:robust_)?accuracy(?:/[^/]+)?)")  # not those of classes, groups or calibrators

Scores = Mapping[str, float]  # accuracies of a finished run


def table(sweep: Sweep, states: Mapping[str, str]) -> str:
    """A line for each run, and below, where seeds are an axis, one for what only they tell apart.

    Args:
        sweep: whose runs they are.
        states: what has become of each run; none where nothing is submitted yet.
    """
    scores = {name: _scores(sweep, name) for name in sweep.runs}
    columns = {"n": [str(n) for n in range(len(sweep.runs))], "run": list(sweep.runs)}
    columns |= {"state": [states[name] for name in sweep.runs]} if states else {}
    for measure in _measures(scores):
        columns[measure] = [_percent(own[measure]) if measure in own else "" for own in scores.values()]
    parts = [rendered(columns)]
    if len(sweep.axes.get(SEED, ())) > 1 and any(scores.values()):
        parts.append(_over_seeds(sweep, scores))
    return "\n\n".join(parts)


def _scores(sweep: Sweep, name: str) -> Scores:
    directory = sweep.directory(name)
    metrics = directory.metrics() if directory.finished else {}
    return {match[1]: value for path, value in metrics.items() if (match := _ACCURACY.fullmatch(path))}


def _measures(scores: Mapping[str, Scores]) -> list[str]:
    return list(dict.fromkeys(measure for own in scores.values() for measure in own))


def _over_seeds(sweep: Sweep, scores: Mapping[str, Scores]) -> str:
    """Means and standard deviations over the seeds that have finished."""
    alike: dict[tuple[str, ...], list[Scores]] = {}
    others = [path for path in sweep.axes if path != SEED]
    for name, values in sweep.runs.items():
        alike.setdefault(tuple(values[path] for path in others), []).append(scores[name])
    columns = {path: [values[place] for values in alike] for place, path in enumerate(others)}
    columns["seeds"] = [str(sum(map(bool, some))) for some in alike.values()]
    for measure in _measures(scores):
        columns[measure] = [_spread([own[measure] for own in some if measure in own]) for some in alike.values()]
    return rendered(columns)


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return "".join(map(_percent, values))
    if not all(map(math.isfinite, values)):
        return "not finite"
    return f"{100 * mean(values):.2f} ± {100 * stdev(values):.2f} %"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %" if math.isfinite(value) else "not finite"
