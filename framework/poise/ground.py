"""What a run provides: the problem as recipes may know it, and the capabilities that data, model and trainer have."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from poise.batch import Batch
from poise.data.dataset import Splits
from poise.models.classifier import Classifier
from poise.recipe import Task
from poise.rules import Refusal
from poise.stack import RecipeStack


def task_of(
    num_classes: int,
    splits: Splits | None,
    num_groups: int,
    feature_width: int,
    tables: Mapping[str, Shaped[Tensor, "..."]],
) -> Task:
    """What a recipe may know of the problem; of a foreign loader's data (no splits) only what was given."""
    if splits is None:
        return Task(num_classes, num_groups=num_groups, feature_width=feature_width, tables=tables)
    train, groups = splits.train, splits.num_groups
    return Task(
        num_classes,
        num_train=len(train),
        class_counts=torch.bincount(train.label, minlength=num_classes),
        num_groups=groups,
        group_counts=None if train.group is None else torch.bincount(train.group, minlength=groups),
        feature_width=feature_width,
        tables=tables,
        label=train.label,
        group=train.group,
    )


@dataclass(frozen=True)
class Ground:
    """What a run stands on.

    Args:
        task: the problem.
        model: inputs to logits.
        splits: the data, where poise loads it; None under a foreign loader.
    """

    task: Task
    model: Classifier
    splits: Splits | None

    def refuse_unsettled(self, stack: RecipeStack) -> None:
        """Refuse needs of what is known without a batch: members' `setup` relies on it.

        Raises:
            Refusal: an unmet need, or a kind of data not accepted.
        """
        settled = self.settled()
        needs = set[str]().union(*(member.needs for _, member in stack.items()))
        unknown = {need for need in needs if need not in settled and not need.startswith(("table:", "layer:"))}
        stack.require(unknown | _true(settled) | self._named(), self._kind())

    def refuse(self, stack: RecipeStack, batch: Batch, accumulate: int, whole_weights: bool) -> None:
        """Refuse needs that this run does not meet.

        Args:
            stack: the recipes.
            batch: a few examples, as the step receives them.
            accumulate: micro-batches of an optimiser step.
            whole_weights: whether each rank holds the whole weights.

        Raises:
            Refusal: an unmet need, or a kind of data not accepted.
        """
        if self.splits is None:
            _refuse_foreign(stack)
        if accumulate > 1 and stack.replays > 1:
            names = ", ".join(stack.names)
            raise Refusal("unmet need", f"{names} replays batches: train with trainer.accumulate=1")
        facts = {
            **self.settled(),
            "index": batch.index is not None,
            "groups": batch.group is not None and self.task.num_groups > 0,
            "whole_batch": accumulate == 1,
            "whole_weights": whole_weights,
        }
        stack.require(_true(facts) | set(batch.streams) | self._named(), self._kind())

    def settled(self) -> dict[str, bool]:
        """Capabilities that are known without a batch, and whether this run has them."""
        return {
            "clean": True,
            "class_counts": self.task.class_counts is not None,
            "group_counts": self.task.group_counts is not None,
            "predict": self.splits is not None,
            "features": self.model.feature_width > 0,
            "layers": bool(self.model.layer_names),
        }

    def _named(self) -> set[str]:
        """The tables and layers that there are."""
        return {f"table:{name}" for name in self.task.tables} | {f"layer:{name}" for name in self.model.layer_names}

    def _kind(self) -> str:
        return "image" if self.splits is None else self.splits.kind


def _true(facts: Mapping[str, bool]) -> set[str]:
    return {name for name, true in facts.items() if true}


def _refuse_foreign(stack: RecipeStack) -> None:
    """Refuse by name what a loader that is not poise's own cannot honour."""
    for name, _ in stack.owners("sample_weights"):
        raise Refusal("unmet need", f"{name} draws examples by weight, which needs poise's own loader: use poise.fit")
    if stack.replays > 1:
        raise Refusal(
            "unmet need",
            f"{', '.join(stack.names)} replays batches, which needs poise's own loader: use poise.fit",
        )
