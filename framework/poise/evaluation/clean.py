"""Accuracy and calibration on inputs as they are."""

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge
from jaxtyping import Float, Int
from torch import Tensor

from poise.batch import Predictions
from poise.evaluator import Evaluator, Findings, Subject
from poise.metrics import Accuracy, Brier, CalibrationError, ClassAccuracy, NegativeLogLikelihood
from poise.predictions import predict


class Clean(Evaluator):
    """Accuracy, NLL (nats), Brier score, ECE, accuracy of each class and group, and of the worst ones.

    Args:
        bins: equal-width confidence bins of the ECE.
    """

    def __init__(self, bins: Annotated[int, Ge(1)] = 15) -> None:
        self.bins = bins

    def evaluate(self, subject: Subject) -> Findings:
        """`<split>/<metric>` before calibration and `<split>/<calibrator>/<metric>` after each calibrator."""
        metrics: dict[str, float] = {}
        for split, data in subject.tests():
            with subject.progress(f"evaluate {split}", len(data)) as done:
                seen = predict(subject.model, data, subject.ranks, watch=done)
            for prefix, column in subject.columns(split, seen):
                metrics |= {f"{prefix}/{name}": value for name, value in self._scores(column).items()}
                metrics |= _by_part(prefix, "class", subject.splits.class_names, column.logits, column.label)
                if column.group is not None:
                    metrics |= _by_group(prefix, _group_names(subject), column)
        return Findings(metrics)

    def _scores(self, seen: Predictions) -> dict[str, float]:
        measures = {
            "accuracy": Accuracy(),
            "nll": NegativeLogLikelihood(),
            "brier": Brier(),
            "ece": CalibrationError(num_bins=self.bins),
        }
        return {name: float(measure(seen.logits, seen.label)) for name, measure in measures.items()}


def _by_part(
    prefix: str, part: str, names: Sequence[str], logits: Float[Tensor, "N C"], label: Int[Tensor, " N"]
) -> dict[str, float]:
    return _with_worst(prefix, part, names, ClassAccuracy(len(names))(logits, label))


def _by_group(prefix: str, names: Sequence[str], seen: Predictions) -> dict[str, float]:
    if seen.group is None:
        return {}
    right = (seen.logits.argmax(1) == seen.label).double()
    count = torch.bincount(seen.group, minlength=len(names))
    accuracy = torch.zeros(len(names), dtype=torch.float64).index_add(0, seen.group, right) / count
    return _with_worst(prefix, "group", names, accuracy)


def _group_names(subject: Subject) -> tuple[str, ...]:
    return subject.splits.group_names or tuple(str(group) for group in range(subject.splits.num_groups))


def _with_worst(prefix: str, part: str, names: Sequence[str], accuracy: Tensor) -> dict[str, float]:
    """Accuracy by name for the parts that have examples, and the worst of them."""
    present = {name: value for name, value in zip(names, accuracy.tolist(), strict=True) if value == value}
    by_name = {f"{prefix}/accuracy/{part}/{name}": value for name, value in present.items()}
    return by_name | {f"{prefix}/worst_{part}_accuracy": min(present.values())}
