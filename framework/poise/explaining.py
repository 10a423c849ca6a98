"""In words: what the numbers of a calibration mean, and which calibrator to trust."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Predictions
from poise.calibration import Calibration, learnt
from poise.metrics.bins import bin_of
from poise.metrics.summary import summarised
from poise.paired import Z, difference, losses
from poise.scores import UNCALIBRATED

DRAWS = 200  # of labels that a model would have which means what it says
BINS = 15  # of the table's ECE


def explained(rows: Predictions, columns: Mapping[str, Float[Tensor, "N C"]], calibration: Calibration) -> list[str]:
    """Sentences for who does not read such numbers every day.

    Args:
        rows: that were measured, before calibration.
        columns: their logits after each calibrator, by alias.
        calibration: what was fitted, and what of it is shipped.
    """
    lines = ["What this says:", *_confidence(rows, UNCALIBRATED, rows.logits)]
    if calibration.shipped is not None:
        lines += _confidence(rows, calibration.shipped, columns[calibration.shipped])
    return [*lines, *_trusted(rows, columns, calibration)]


def _confidence(rows: Predictions, name: str, logits: Tensor) -> Iterator[str]:
    """How sure a column is and how often it is right, and its ECE beside what chance gives."""
    scores = summarised(logits, rows.label).scores
    sure, right, ece, size = scores["confidence"], scores["accuracy"], scores["ece"], len(rows.label)
    margin = Z * (max(right * (1 - right), 1 / size) / size) ** 0.5  # nor are a few right answers certainty
    gap = 100 * (sure - right)
    if abs(sure - right) <= margin:
        verdict = f"as much as {size} rows can tell, neither too sure nor too unsure in the mean"
    else:
        verdict = f"{'over' if gap > 0 else 'under'}-confident by {abs(gap):.1f} points in the mean"
    yield f"- {name}: {100 * sure:.1f} % sure and {100 * right:.1f} % right: {verdict}."
    yield (
        f"- {name}: an ECE of {ece:.4f} means that where it says p, the share that is right is off by "
        f"{100 * ece:.1f} points in the mean. A model that means what it says shows {_by_chance(logits):.4f} on as "
        "many rows."
    )


def _by_chance(logits: Tensor) -> float:
    """The mean ECE of rows whose predictions are right as often as they say."""
    confidence = logits.double().softmax(1).amax(1)
    place, generator = bin_of(confidence, BINS), torch.Generator().manual_seed(0)
    found = 0.0
    for _ in range(DRAWS):
        right = torch.rand(len(confidence), generator=generator, dtype=torch.float64) < confidence
        gaps = torch.zeros(BINS, dtype=torch.float64).index_add(0, place, confidence - right.double())
        found += float(gaps.abs().sum()) / len(confidence) / DRAWS
    return found


def _trusted(rows: Predictions, columns: Mapping[str, Tensor], calibration: Calibration) -> Iterator[str]:
    """What is gained by the shipped calibrator, and who is as good."""
    shipped = calibration.shipped
    if shipped is None:
        return
    yield "- NLL, in nats, weighs every probability and rewards no trick: trust what lowers it. Lower is better."
    own = losses(columns[shipped], rows.label)
    gain = difference(losses(rows.logits, rows.label), own)
    if not gain.clear:
        yield (
            f"- {shipped} changes it by {-gain.mean:+.4f} ± {gain.margin:.4f} (95 %): these rows cannot tell whether "
            "it is better than the model as it is."
        )
    else:
        lowers, trusted = ("lowers", "it rather than ") if gain.mean > 0 else ("raises", "")
        told = f"{abs(gain.mean):.4f} ± {gain.margin:.4f}"
        yield f"- {shipped} {lowers} it by {told} (95 %): trust {trusted}the model as it is."
    as_good = [shipped]
    for name, logits in columns.items():
        if name == shipped:
            continue
        worse = difference(losses(logits, rows.label), own)
        if worse.clear:
            than = "worse" if worse.mean > 0 else "better"
            yield f"- {name} is {than} than it by {abs(worse.mean):.4f} ± {worse.margin:.4f} on these rows."
        else:
            as_good.append(name)
            told = f"{worse.mean:+.4f} ± {worse.margin:.4f}"
            yield f"- {name} differs from it by {told}: these rows cannot tell which is better."
    if len(as_good) > 1:
        yield _choice(as_good, calibration)


def _choice(as_good: Sequence[str], calibration: Calibration) -> str:
    """What to do where rows cannot tell."""
    kept = {name: learnt(calibration.calibrators[name]) for name in as_good}
    simplest = min(kept, key=lambda name: kept[name])
    told = ", ".join(f"{name} {count:,}" for name, count in kept.items())
    return (
        f"- So the choice among {', '.join(as_good)} is uncertain. Unless more rows decide it, the simplest is the "
        f"safest: {simplest} (numbers learnt: {told})."
    )
