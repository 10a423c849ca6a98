"""A learning rate that falls when validation accuracy stops rising."""

from collections.abc import Mapping

import torch
from torch import Tensor

from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step


class TinyAccel(Recipe):
    """Multiply the learning rate by c after an epoch whose validation accuracy rose by less than θ.

    Source: Nikfam et al., AccelAT: A Framework for Accelerating the Adversarial Training of Deep Neural Networks
    through Accuracy Gradient, 2022, arXiv 2210.06888, with P = Q = 1.

    Args:
        threshold: θ, a share of the examples.
        factor: c in (0, 1].
    """

    paper = "Nikfam et al., AccelAT, 2022, arXiv 2210.06888"
    accuracies: Tensor
    current: Tensor

    def __init__(self, threshold: float = 0.005, factor: float = 0.8) -> None:
        super().__init__()
        self.threshold = threshold
        self.factor = factor

    def setup(self, task: Task, model: Classifier) -> None:
        self.register_buffer("accuracies", torch.full((task.epochs,), -torch.inf, dtype=torch.float64))
        self.register_buffer("current", torch.ones((), dtype=torch.float64))

    def lr_factor(self, step: Step) -> float:
        return float(self.current)

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        self.accuracies[step.epoch] = metrics.get("val/accuracy", -torch.inf)
        if step.epoch and self.accuracies[step.epoch] - self.accuracies[step.epoch - 1] < self.threshold:
            self.current *= self.factor
