"""In words: what the numbers of a calibration mean, and which calibrator to trust."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Predictions
from poise.calibration import Calibration, learnt
from poise.calibrator import Calibrator
from poise.doubts import FEW_MISTAKES, doubts, mistakes, of_labels
from poise.metrics.bins import bin_of
from poise.metrics.summary import summarised
from poise.paired import Difference, Z, difference, losses
from poise.scores import UNCALIBRATED

DRAWS = 200  # of labels that a model would have which means what it says
BINS = 15  # of the table's ECE


def explained(
    rows: Predictions,
    columns: Mapping[str, Float[Tensor, "N C"]],
    calibration: Calibration,
    held_out: Predictions,
    classes: Sequence[str],
) -> list[str]:
    """Sentences for who does not read such numbers every day.

    Args:
        rows: that were measured, before calibration.
        columns: their logits after each calibrator, by alias.
        calibration: what was fitted, and what of it is shipped.
        held_out: what it was fitted to; these may be the rows that were measured.
        classes: names of the C classes.
    """
    lines = [f"- {doubt}" for doubt in doubts(held_out, calibration.calibrators, classes)]
    if rows is not held_out:
        lines += [f"- {doubt}" for doubt in of_labels(rows, "to test on")]
    lines += _confidence(rows, UNCALIBRATED, rows.logits)
    if calibration.shipped is not None:
        lines += _confidence(rows, calibration.shipped, columns[calibration.shipped])
    return ["What this says:", *lines, *_trusted(rows, columns, calibration)]


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
    """What is gained by what is shipped, and who is as good."""
    if not columns:
        return
    yield "- NLL, in nats, weighs every probability and rewards no trick: trust what lowers it. Lower is better."
    every = {UNCALIBRATED: rows.logits, **columns}
    by_row = {name: losses(logits, rows.label) for name, logits in every.items()}
    shipped, as_good = calibration.shipped or UNCALIBRATED, []
    if shipped == UNCALIBRATED:
        yield "- The model is shipped as it is: cross-validated on the rows to fit on, no calibrator lowers it."
    else:
        gain = difference(by_row[UNCALIBRATED], by_row[shipped])
        yield f"- {shipped} {_gained(gain, rows, calibration.calibrators[shipped])}"
        as_good = [] if gain.clear else [UNCALIBRATED]
    for name in columns:
        if name == shipped:
            continue
        worse = difference(by_row[name], by_row[shipped])
        if worse.clear:
            than = "worse" if worse.mean > 0 else "better"
            yield f"- {name} is {than} than {shipped} by {_size(worse)} on these rows."
        else:
            as_good.append(name)
            yield f"- {name} differs from {shipped} by {_signed(worse)}: these rows cannot tell which is better."
    if as_good:
        yield _choice(shipped, as_good, calibration)


def _gained(gain: Difference, rows: Predictions, calibrator: Calibrator) -> str:
    """What a calibrator does to the NLL, and whether to trust it for that."""
    if not gain.clear:
        changed = _signed(Difference(-gain.mean, gain.margin))
        return f"changes it by {changed} (95 %): these rows cannot tell whether it is better than the model as it is."
    if gain.mean < 0:
        return f"raises it by {_size(gain)} (95 %): trust the model as it is."
    wrong = mistakes(rows)
    if wrong < FEW_MISTAKES:
        verdict = f", but with {wrong} of {len(rows.label)} rows predicted wrong that is no reason to trust it."
    elif calibrator.doubt:
        verdict = f", but do not rely on it: {calibrator.doubt}."
    else:
        verdict = ": trust it rather than the model as it is."
    return f"lowers it by {_size(gain)} (95 %){verdict}"


def _choice(shipped: str, as_good: Sequence[str], calibration: Calibration) -> str:
    """What to do where rows cannot tell what is shipped from others."""
    names = [name for name in (UNCALIBRATED, *calibration.calibrators) if name == shipped or name in as_good]
    kept = {name: 0 if name == UNCALIBRATED else learnt(calibration.calibrators[name]) for name in names}
    simplest = min(kept, key=lambda name: (kept[name], name != shipped))
    numbers = "numbers learnt: " + ", ".join(f"{name} {count:,}" for name, count in kept.items())
    told = f"- So the choice of {shipped}, which is shipped, rather than {', '.join(as_good)} is uncertain"
    if simplest == shipped:
        return f"{told}; it is the simplest of them, and the safest ({numbers})."
    alone = "none" if simplest == UNCALIBRATED else simplest
    return (
        f"{told}. Unless more rows decide it, the simplest is the safest: {simplest}, which calibration={alone} ships "
        f"({numbers})."
    )


def _size(change: Difference) -> str:
    return f"{abs(change.mean):.4f} ± {change.margin:.4f}"


def _signed(change: Difference) -> str:
    return f"{change.mean:+.4f} ± {change.margin:.4f}"
