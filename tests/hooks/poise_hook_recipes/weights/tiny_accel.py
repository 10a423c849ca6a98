"""A learning rate that falls when validation accuracy stops rising."""

import math
from collections.abc import Mapping

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

    def __init__(self, threshold: float = 0.005, factor: float = 0.8) -> None:
        super().__init__()
        self.threshold = threshold
        self.factor = factor

    def setup(self, task: Task, model: Classifier) -> None:
        self.accuracy, self.current = -math.inf, 1.0

    def get_extra_state(self) -> dict[str, float]:
        """Numbers that the host asks for at every step: in buffers it would wait for the device."""
        return {"accuracy": self.accuracy, "current": self.current}

    def set_extra_state(self, state: Mapping[str, float]) -> None:
        self.accuracy, self.current = state["accuracy"], state["current"]

    def lr_factor(self, step: Step) -> float:
        return self.current

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        before, self.accuracy = self.accuracy, metrics.get("val/accuracy", -math.inf)
        if step.epoch and self.accuracy - before < self.threshold:
            self.current *= self.factor
