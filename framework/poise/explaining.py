"""In words: what the numbers of a calibration mean, and which calibrator to trust."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Predictions
from poise.calibration import Calibration
from poise.metrics.summary import summarised
from poise.scores import UNCALIBRATED

DRAWS = 200  # of labels that a model would have which means what it says
Z = 1.96  # standard errors of a 95 % interval


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
    return [*lines, *_trusted(rows, columns, calibration.shipped)]


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
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(DRAWS, len(confidence), generator=generator, dtype=torch.float64) < confidence
    wrong_class = (logits.argmax(1) + 1) % logits.shape[1]
    labels = torch.where(drawn, logits.argmax(1), wrong_class)
    return sum(summarised(logits, label).scores["ece"] for label in labels) / DRAWS


def _trusted(rows: Predictions, columns: Mapping[str, Tensor], shipped: str | None) -> Iterator[str]:
    """What is gained by the shipped calibrator, and who is as good."""
    if shipped is None:
        return
    yield "- NLL, in nats, weighs every probability and rewards no trick: trust what lowers it. Lower is better."
    own = _losses(columns[shipped], rows.label)
    gain, margin = _difference(_losses(rows.logits, rows.label), own)
    if gain > margin:
        yield f"- {shipped} lowers it by {gain:.4f} ± {margin:.4f} (95 %): trust it rather than the model as it is."
    elif gain < -margin:
        yield f"- {shipped} raises it by {-gain:.4f} ± {margin:.4f} (95 %): trust the model as it is."
    else:
        yield (
            f"- {shipped} changes it by {-gain:+.4f} ± {margin:.4f} (95 %): these rows cannot tell whether it is "
            "better than the model as it is."
        )
    for name, logits in columns.items():
        if name != shipped:
            gain, margin = _difference(_losses(logits, rows.label), own)
            if abs(gain) <= margin:
                yield f"- {name} differs from it by {gain:+.4f} ± {margin:.4f}: these rows cannot tell which is better."
            else:
                better = "worse" if gain > 0 else "better"
                yield f"- {name} is {better} than it by {abs(gain):.4f} ± {margin:.4f} on these rows."


def _losses(logits: Tensor, label: Tensor) -> Tensor:
    return -logits.double().log_softmax(1).gather(1, label[:, None])[:, 0]


def _difference(one: Tensor, other: Tensor) -> tuple[float, float]:
    """How much greater the one is in the mean, and half of the 95 % interval, row by row."""
    differences = one - other
    return float(differences.mean()), Z * float(differences.std()) / len(differences) ** 0.5
