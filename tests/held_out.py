"""Held-out logits and labels of which the true probabilities are known."""

import torch
import torch.nn.functional as F
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.metrics import CalibrationError


def predictions(logits: Tensor, label: Tensor) -> Predictions:
    return Predictions.of(logits, label)


def calibrated_logits(size: int, classes: int, seed: int = 0, prior: Tensor | float = 0.0) -> Predictions:
    """Labels drawn from the softmax of the logits."""
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(size, classes, generator=generator, dtype=torch.float64) + prior
    return predictions(z.log_softmax(-1), torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0])


def bent(size: int, classes: int = 10, seed: int = 0) -> Predictions:
    """Logits that one temperature cannot make calibrated: sign(l)·|l|^1.25·1.2 of calibrated ones."""
    made = calibrated_logits(size, classes, seed)
    return predictions(made.logits.sign() * made.logits.abs() ** 1.25 * 1.2, made.label)


def noisy(size: int, seed: int = 0) -> tuple[Predictions, Tensor]:
    """Logits that are too large by a half, a twentieth of the labels drawn anew; and true log-probabilities."""
    made = calibrated_logits(size, 10, seed)
    generator = torch.Generator().manual_seed(seed + 7)
    anew = torch.rand(size, generator=generator) < 0.05
    label = torch.where(anew, torch.randint(10, (size,), generator=generator), made.label)
    return predictions(1.5 * made.logits, label), (0.95 * made.logits.exp() + 0.005).log()


def events(made: Predictions, inverse: float = 1.0) -> tuple[Tensor, Tensor]:
    """Each class's probability in single precision at a temperature, and whether it occurred."""
    probability = (made.logits * inverse).softmax(-1).flatten()
    return probability.float(), F.one_hot(made.label, made.logits.shape[1]).flatten().bool()


def ece(calibrator: Calibrator, made: Predictions) -> float:
    metric = CalibrationError()
    metric.update(calibrator(made.logits), made.label)
    return float(metric.compute())


def nll(calibrator: Calibrator, made: Predictions) -> float:
    return float(F.nll_loss(calibrator(made.logits), made.label))
