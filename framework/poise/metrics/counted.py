"""The scores that reports compare calibrators by, as functions of how often each example is counted."""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from poise.examples import refuse
from poise.metrics.bins import MOST_BINS, Bins, bin_of
from poise.metrics.bootstrap import Resampled, Scores, bootstrap
from poise.metrics.equal_mass_calibration_error import equal_mass_bins
from poise.metrics.given import as_examples, outside
from poise.metrics.levels import Levels
from poise.metrics.maximum_calibration_error import MIN_COUNT
from poise.number_checks import check_counts

Times = Float[Tensor, "R N"]
_ROOM = 2**22  # sums, or what is summed up, that are held at a time
_SHARES = ("accuracy", "ece", "ece_equal_mass", "classwise_ece", "mce", "confidence")
BOUNDS = {**dict.fromkeys(_SHARES, (0.0, 1.0)), "nll": (0.0, math.inf), "brier": (0.0, 2.0)}


def resampled_summaries(
    columns: Mapping[str, Float[Tensor, "N C"]],
    labels: Int[Tensor, " N"],
    index: Int[Tensor, " N"],
    bins: int = 15,
    resamples: int = 1000,
    seed: int = 0,
    watch: Callable[[float], None] = lambda drawn: None,
) -> dict[str, dict[str, Resampled]]:
    """The scores that `summarised` gives, of every column of logits, over the same resamples.

    `found["temperature_scaling"]["ece"].interval()` is a score's interval, and of what a calibrator changes,
    `(found["temperature_scaling"]["ece"] - found["uncalibrated"]["ece"]).interval()`. Scores that are no finite number
    stay away.

    Args:
        columns: logits by name, of every rank, the same on each.
        labels: in 0…C-1.
        index: the examples' positions in their split.
        bins: of the calibration errors, in 1…10,000.
        resamples: their number, >= 1.
        seed: of the draws.
        watch: told how many more resamples are drawn, for a progress bar.

    Raises:
        UserError: there are no examples, or no resamples; bins is another number; logits or labels of other shapes or
            types, or labels outside 0…C-1.
    """
    check_counts("resampled_summaries", MOST_BINS, bins=bins)
    for name, logits in columns.items():
        _, labels = as_examples(logits, labels)
        refuse(outside(labels, logits.shape[1]), f"column {name}", f"has a label outside 0…{logits.shape[1] - 1}")
    scores = {name: counted_scores(logits, labels, bins) for name, logits in columns.items()}
    found = bootstrap(scores, index, resamples, seed, BOUNDS, watch)
    return {
        column: {name: score for name, score in of_column.items() if math.isfinite(score.estimate)}
        for column, of_column in found.items()
    }


def counted_scores(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"], bins: int = 15) -> Scores:
    """The scores that `summarised` gives, for examples that are counted as often as they are told to be."""
    probability = logits.double().softmax(-1)
    residual = probability - one_hot(labels, logits.shape[1])
    confidence, correct = probability.amax(-1), (logits.argmax(-1) == labels).double()
    likelihood = logits.double().log_softmax(-1).gather(1, labels[:, None])[:, 0]
    means = torch.stack([correct, -likelihood, residual.square().sum(1), confidence], 1)
    by_width = _counted_bins(confidence, correct, bins)
    classwise = _counted_classwise(probability, residual, bins)

    def scores(times: Times) -> dict[str, Float[Tensor, " R"]]:
        sums = (times @ means / times.sum(1, keepdim=True)).unbind(1)
        equal_width = by_width(times)
        return {
            **dict(zip(("accuracy", "nll", "brier", "confidence"), sums, strict=True)),
            "ece": equal_width.error,
            "mce": equal_width.largest_gap(MIN_COUNT),
            "ece_equal_mass": equal_mass_bins(Levels.of(confidence, correct, times), bins).error,
            "classwise_ece": classwise(times),
        }

    return scores


def _counted_bins(confidence: Float[Tensor, " N"], correct: Float[Tensor, " N"], bins: int) -> Callable[[Times], Bins]:
    """The bins of equal width of examples that are counted so often."""
    place = bin_of(confidence, bins)

    def counted(times: Times) -> Bins:
        counts, confidences, corrects = (_summed(times * values, place, bins) for values in (1.0, confidence, correct))
        return Bins.of_sums(counts.round().long(), confidences, corrects)

    return counted


def _counted_classwise(
    probability: Float[Tensor, "N C"], residual: Float[Tensor, "N C"], bins: int
) -> Callable[[Times], Float[Tensor, " R"]]:
    """The classwise calibration error of examples that are counted so often.

    Few of an example's probabilities lie above the first bin. Those are looked at one by one, and the first bin is
    what is left of all.
    """
    classes = probability.shape[1]
    place = bin_of(probability, bins)
    example, label = (place > 0).nonzero(as_tuple=True)
    cell, value = label * bins + place[example, label], residual[example, label]
    rows = max(1, _ROOM // max(len(cell), classes * bins))

    def error(times: Times) -> Float[Tensor, " R"]:
        above = _summed(times[:, example] * value, cell, classes * bins).view(len(times), classes, bins)
        first = times @ residual - above.sum(2)
        return (above.abs().sum((1, 2)) + first.abs().sum(1)) / (classes * times.sum(1))

    return lambda times: torch.cat([error(part) for part in times.split(rows)])


def _summed(values: Float[Tensor, "R M"], place: Int[Tensor, " M"], places: int) -> Float[Tensor, "R P"]:
    """The sum over the values in each place, row by row."""
    return values.new_zeros(len(values), places).scatter_add(1, place.expand_as(values), values)
