"""Numbers of a trained model, accuracies in percent."""

from collections.abc import Callable

import torch
from torch import Tensor

from claims.training import Trained
from poise.attacks.attack import is_right
from poise.attacks.autoattack import AutoAttack
from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.batch import as_input
from poise.data.dataset import Arrays
from poise.models.classifier import Classifier

STEPS, RESTARTS = 50, 2
SAMPLE = 100  # examples of AutoAttack
PIECE = 250  # examples of a pass


def of_the_shipped(run: Trained) -> dict[str, float]:
    """Of the shipped model on 1,000 test examples: clean accuracy, and robust accuracy under PGD-50 with 2 restarts; of
    seed 0 also accuracy on 100 of them under AutoAttack, which is judged nowhere.
    """
    test = run.splits.test
    numbers = {"clean": clean(run.best, test), "robust": robust(run.best, test, run.threat)}
    if run.seed == 0:
        numbers["autoattack"] = autoattacked(run.best, test, run.threat)
    return numbers


def clean(model: Classifier, data: Arrays) -> float:
    """Accuracy on inputs as they are, in percent."""
    return _percent(_right(data, lambda x, y, index: is_right(model, x, y)))


def robust(model: Classifier, data: Arrays, threat: Threat) -> float:
    """Accuracy under PGD of 50 steps on the cross-entropy with two random starts, in percent."""
    return _percent(survivors(model, data, threat))


def autoattacked(model: Classifier, data: Arrays, threat: Threat) -> float:
    """Accuracy of the first 100 examples under AutoAttack's standard version, in percent."""
    part = data.fetch(torch.arange(min(SAMPLE, len(data))))
    right = AutoAttack(threat).run(model, as_input(part["x"]), part["label"], index=part["index"]).robust
    return _percent(list(right.values())[-1])


def survivors(model: Classifier, data: Arrays, threat: Threat) -> Tensor:
    """Which examples [N] are right under that attack."""
    attack = PGD(threat, steps=STEPS, restarts=RESTARTS)
    return _right(data, lambda x, y, index: is_right(model, attack(model, x, y, index=index), y))


def worst_class(right: Tensor, label: Tensor, count: int = 1) -> float:
    """Mean accuracy of the so many classes with the lowest, in percent."""
    by_class = torch.stack([right[label == c].double().mean() for c in label.unique()])
    return 100 * float(by_class.sort().values[:count].mean())


def energy_difference(model: Classifier, data: Arrays, threat: Threat) -> float:
    """The mean of |E(x) - E(x')| in nats, E(x) = -log Σ exp f(x), with x' that PGD of 20 steps finds."""
    x = as_input(data.fetch(torch.arange(len(data)))["x"])
    attacked = PGD(threat, steps=20)(model, x, data.label)
    with torch.no_grad():
        clean_energy, attacked_energy = (-model(inputs).logsumexp(1) for inputs in (x, attacked))
    return float((clean_energy - attacked_energy).abs().mean())


def _right(data: Arrays, right: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    parts = [data.fetch(rows) for rows in torch.arange(len(data)).split(PIECE)]
    return torch.cat([right(as_input(part["x"]), part["label"], part["index"]) for part in parts])


def _percent(right: Tensor) -> float:
    return 100 * float(right.double().mean())
