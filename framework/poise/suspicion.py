"""Signs that numbers are too good: examples that a model or a calibrator has seen before they were measured on."""

import hashlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from poise.batch import Predictions
from poise.data.dataset import Arrays

SURE = 3.0  # standard errors
CLEAR = 1.2  # times the loss on the calibration split
CHUNK = 256  # rows in memory at once


def repeated(calibration: Arrays, test: Arrays) -> str:
    """What to say of test examples that are in the calibration split as well; "" where there are none."""
    known = set(_digests(calibration))
    count = sum(row in known for row in _digests(test))
    if not count:
        return ""
    return f"{count} of {len(test)} test examples are in the calibration split too: what is measured on them was fitted"


def trained_on(calibration: Predictions, test: Predictions) -> str:
    """What to say where the calibration split fits an uncalibrated model better than test, beyond chance; else "".

    Losses on a training split are smaller than on data that were held out. By Welch's statistic of the two means.
    """
    seen, unseen = _loss(calibration), _loss(test)
    gap, error = unseen.mean() - seen.mean(), (seen.var() / len(seen) + unseen.var() / len(unseen)).sqrt()
    if not (gap > SURE * error and unseen.mean() > CLEAR * seen.mean()):
        return ""
    losses = f"NLL {seen.mean():.4f} against {unseen.mean():.4f}"
    return (
        f"the model fits the calibration split better than test ({losses}): if it was trained on these examples, "
        "calibrators are over-confident; calibrate on others"
    )


def no_logits(seen: Predictions) -> str:
    """What to say of a model whose outputs are probabilities, which a softmax makes nearly uniform; "" of logits."""
    outputs = seen.logits
    if (outputs < 0).any() or ((outputs.sum(1) - 1).abs() > 1e-3).any():
        return ""
    return "the model gives probabilities, not logits: leave its softmax out, or give their logarithm"


def _digests(split: Arrays) -> Iterator[bytes]:
    """Of each input, 16 bytes that stand for it: the inputs themselves may be more than memory holds."""
    for part in torch.arange(len(split)).split(CHUNK):
        for row in split.x[part].numpy():
            yield hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _loss(seen: Predictions) -> Float[Tensor, " N"]:
    return -seen.logits.double().log_softmax(1).gather(1, seen.label[:, None])[:, 0]
