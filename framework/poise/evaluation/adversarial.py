"""Accuracy under attack."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from poise.attacks.pgd import PGD
from poise.evaluator import Evaluator, Findings, Subject
from poise.models.classifier import Classifier
from poise.predictions import predict


class Adversarial(Evaluator):
    """Accuracy under projected gradient descent on the cross-entropy, inside the run's threat.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, arXiv 1706.06083.
    The attack sees the uncalibrated model, in evaluation mode, and its start is keyed by (seed, position).

    Args:
        steps: gradient steps of each restart.
        restarts: random starts; an example counts as right only if it withstands all.
        step_size: of each step, in input units; 2.5·eps/steps if None.
    """

    def __init__(
        self,
        steps: Annotated[int, Ge(1)] = 20,
        restarts: Annotated[int, Ge(1)] = 1,
        step_size: Annotated[float, Gt(0)] | None = None,
    ) -> None:
        self.steps = steps
        self.restarts = restarts
        self.step_size = step_size

    def evaluate(self, subject: Subject) -> Findings:
        """`<split>/robust_accuracy/pgd-<steps>`, and the same after each calibrator."""
        attack = PGD(subject.threat, self.steps, step_size=self.step_size, restarts=self.restarts)

        def attacked(model: Classifier, x: Tensor, label: Tensor, position: Tensor) -> Tensor:
            return attack(model, x, label, seed=subject.seed, index=position)

        metrics: dict[str, float] = {}
        for split, data in subject.tests():
            with subject.progress(f"attack {split}", len(data)) as done:
                seen = predict(subject.model, data, subject.ranks, attacked, batch_size=128, watch=done)
            for prefix, column in subject.columns(split, seen):
                right = (column.logits.argmax(1) == column.label).double()
                metrics[f"{prefix}/robust_accuracy/pgd-{self.steps}"] = float(torch.mean(right))
        return Findings(metrics)
