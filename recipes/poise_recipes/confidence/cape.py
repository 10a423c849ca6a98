"""Targets that are the probabilities seen among similar predictions."""

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step

Estimate = Callable[[Tensor, Tensor], Tensor]


class CaPE(Recipe):
    """Calibrated probability estimation: from time to time, train towards what came true among similar predictions.

    From the share `start` of the run on, every `every`-th epoch, the first at once, begins with a look at the training
    split in evaluation mode. For each class c its N probabilities are sorted; an example's target for c is the share
    of class c among its neighbours in that order: in groups of equal size (`bins`), or of the nearest by rank, weighed
    by exp(-(p_i - p_j)²/(2·w²)) (`kernel`). Rows [N, C] are normalised; one of zeros keeps its label. These targets
    [B, C] take the place of the labels in the label loss for the epoch; in other epochs it sees the labels. A mixed
    example has those of its parents by their shares. Attacks see targets as they are.

    It finds probabilities only where labels do not follow from the inputs, and a network that knows its training
    labels by heart has none left to find: begin while it still generalises. As published, train plainly first, take
    the weights of the lowest NLL on the validation split as `model.checkpoint`, and give start=0.

    Source: Liu et al., Deep Probability Estimation, 2022, arXiv 2111.10734. Departures from the authors' code, which is
    for two classes: more of them, each against the rest, in more groups as each is rarer, for a group that is larger
    than a class would hold what is surely of it and what is surely not; of two classes both are estimated, so that
    targets at the groups' borders and at the ends of the order differ a little from theirs. They start from the best
    epoch of a run of its own, and look at the split before every epoch, to no effect in the others.

    Args:
        start: share of the run, in [0, 1], before targets are first replaced.
        every: epochs of which the first has these targets; published are 3 for bins and 4 for the kernel.
        estimate: bins: the share in a group of equal size; kernel: in a neighbourhood of each example.
        bins: groups, of two classes; of C there are bins·C/2. Published are 5.
        reach: of the kernel: neighbours on either side; published are 100.
        width: w of the kernel, in units of probability; published is 0.05.
    """

    paper = "Liu et al., Deep Probability Estimation, 2022, arXiv 2111.10734"
    provides: ClassVar[frozenset[str]] = frozenset({"estimated_targets"})
    needs: ClassVar[frozenset[str]] = frozenset({"index", "predict"})
    conflicts: ClassVar[frozenset[str]] = frozenset({"estimated_targets"})
    table: Tensor

    def __init__(
        self,
        start: Annotated[float, Ge(0), Le(1)] = 0.5,
        every: Annotated[int, Ge(1)] = 3,
        estimate: Literal["bins", "kernel"] = "bins",
        bins: Annotated[int, Ge(1), Le(1000)] = 5,
        reach: Annotated[int, Ge(1)] = 100,
        width: Annotated[float, Gt(0)] = 0.05,
    ) -> None:
        super().__init__()
        self.start = start
        self.every = every
        self.estimate = estimate
        self.bins = bins
        self.reach = reach
        self.width = width
        self._first = 0

    def setup(self, task: Task, model: Classifier) -> None:
        """Room for a target of each training example."""
        self._first = math.ceil(self.start * task.epochs)
        self.register_buffer("table", torch.full((task.num_train, task.num_classes), 1 / task.num_classes))

    def on_epoch_start(self, step: Step) -> None:
        """Estimate the targets of an epoch that has them."""
        if not self._estimates(step.epoch):
            return
        seen = step.predict("train")
        occurred = F.one_hot(seen.label, seen.logits.shape[1]).double()
        self.table.copy_(estimated(seen.logits.double().softmax(1), occurred, self._estimate))

    def adjust(
        self, logits: Float[Tensor, "B C"], target: Float[Tensor, "B C"], batch: Batch, step: Step
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Logits as they are, and the epoch's targets."""
        return logits, batch.lookup(self.table).to(target.dtype) if self._estimates(step.epoch) else target

    def _estimates(self, epoch: int) -> bool:
        return epoch >= self._first and (epoch - self._first) % self.every == 0

    def _estimate(self, probability: Tensor, occurred: Tensor) -> Tensor:
        if self.estimate == "bins":
            return bin_means(probability, occurred, max(1, self.bins * occurred.shape[1] // 2))
        return kernel_means(probability, occurred, self.reach, self.width)


def estimated(
    probability: Float[Tensor, "N C"], occurred: Float[Tensor, "N C"], estimate: Estimate
) -> Float[Tensor, "N C"]:
    """Distributions over the classes: each class's estimate, normalised; what occurred where all of them are zero.

    Args:
        probability: of each class.
        occurred: 1 for the class of each example, 0 for the others.
        estimate: takes both in the order of each class's probability; gives its mean occurrence there, in that order.
    """
    order = probability.argsort(dim=0, stable=True)
    found = estimate(probability.gather(0, order), occurred.gather(0, order))
    unsorted = torch.empty_like(found).scatter_(0, order, found)
    total = unsorted.sum(1, keepdim=True)
    return torch.where(total > 0, unsorted / total.clamp(min=torch.finfo(total.dtype).tiny), occurred)


def bin_means(probability: Float[Tensor, "N C"], occurred: Float[Tensor, "N C"], bins: int) -> Float[Tensor, "N C"]:
    """Mean occurrence in each of `bins` groups, the b-th of rows ⌊b·N/bins⌋ to ⌊(b+1)·N/bins⌋, for all its rows."""
    sizes = (torch.arange(bins + 1) * len(occurred) // bins).diff()
    group = torch.arange(bins).repeat_interleave(sizes)
    sums = occurred.new_zeros(bins, occurred.shape[1]).index_add_(0, group, occurred)
    return (sums / sizes.clamp(min=1)[:, None])[group]


def kernel_means(
    probability: Float[Tensor, "N C"], occurred: Float[Tensor, "N C"], reach: int, width: float
) -> Float[Tensor, "N C"]:
    """Mean occurrence in the rows i-reach … i+reach-1 around each row i, by a Gaussian of the probabilities' distance.

    One pass over all rows for each neighbour: `2·reach·N·C` operations, and memory of the size of the arguments.
    """
    size = len(occurred)
    total, weight = torch.zeros_like(occurred), torch.zeros_like(occurred)
    for offset in range(max(-reach, 1 - size), min(reach, size)):
        here = slice(max(0, -offset), size - max(0, offset))
        there = slice(max(0, offset), size - max(0, -offset))
        near = (-((probability[here] - probability[there]) / width).square() / 2).exp()
        total[here] += near * occurred[there]
        weight[here] += near
    return total / weight
