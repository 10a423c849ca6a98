"""Held-out logits that are honest but for what is done to them, for tests of calibrators."""

import math

import torch
from torch import Tensor

from poise.batch import Predictions


def predictions(logits: Tensor, label: Tensor) -> Predictions:
    """A calibration split of logits [N, C] and labels [N]."""
    return Predictions.of(logits, label)


def honest(size: int, classes: int = 4, seed: int = 0) -> Predictions:
    """Labels drawn from the softmax of the logits."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    return predictions(logits, torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0])


def skewed(size: int, classes: int = 4, seed: int = 0) -> Predictions:
    """Honest ones, each class's logits then stretched and shifted by amounts of its own, all of them doubled."""
    made, class_number = honest(size, classes, seed), torch.arange(classes, dtype=torch.float64)
    return predictions(2 * (made.logits * (1 + 0.5 * class_number.sin()) + 0.5 * class_number.cos()), made.label)


def with_masked_class(made: Predictions) -> Predictions:
    """The same and a last class that cannot be."""
    masked = torch.full((len(made.label), 1), -math.inf, dtype=made.logits.dtype)
    return predictions(torch.cat([made.logits, masked], 1), made.label)
