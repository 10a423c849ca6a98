"""Signs that numbers are too good: examples that a model or a calibrator has seen before they were measured on."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Predictions
from poise.data.dataset import Arrays

SURE = 4.0  # standard errors
CLEAR = 0.55  # of all pairs, where half would be chance


def repeated(calibration: Arrays, test: Arrays) -> str:
    """What to say of test examples that are in the calibration split as well; "" where there are none."""
    known = {row.tobytes() for row in calibration.x.numpy()}
    count = sum(row.tobytes() in known for row in test.x.numpy())
    if not count:
        return ""
    return f"{count} of {len(test)} test examples are in the calibration split too: what is measured on them was fitted"


def trained_on(calibration: Predictions, test: Predictions) -> str:
    """What to say where the calibration split fits an uncalibrated model better than chance lets test do; else "".

    By the Mann-Whitney test on the losses: a training split has smaller ones than data that were held out.
    """
    share, errors = smaller(_loss(calibration), _loss(test))
    if errors < SURE or share < CLEAR:
        return ""
    return (
        f"the model fits the calibration split better than test (its loss is smaller in {100 * share:.0f} % of all "
        "pairs): if it was trained on these examples, calibrators are over-confident; calibrate on others"
    )


def no_logits(seen: Predictions) -> str:
    """What to say of a model whose outputs are probabilities, which a softmax makes nearly uniform; "" of logits."""
    outputs = seen.logits
    if (outputs < 0).any() or ((outputs.sum(1) - 1).abs() > 1e-3).any():
        return ""
    return "the model gives probabilities, not logits: leave its softmax out, or give their logarithm"


def smaller(first: Float[Tensor, " N"], second: Float[Tensor, " M"]) -> tuple[float, float]:
    """The share of pairs in which the value of `first` is the smaller one (ties count half), and its distance from 1/2.

    The distance is in standard errors of samples from one distribution.
    """
    ordered, count = second.sort().values, len(first) * len(second)
    above = len(second) - (torch.searchsorted(ordered, first) + torch.searchsorted(ordered, first, right=True)) / 2
    share = float(above.double().sum()) / count
    return share, (share - 0.5) / math.sqrt((len(first) + len(second) + 1) / (12 * count))


def _loss(seen: Predictions) -> Float[Tensor, " N"]:
    return -seen.logits.double().log_softmax(1).gather(1, seen.label[:, None])[:, 0]
