"""Group distributionally robust optimisation."""

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from poise.batch import Batch, Outcome
from poise.models.classifier import Classifier
from poise.recipe import Recipe, Task
from poise.step import Step


class GroupDRO(Recipe):
    """Minimise the loss of the worst group: Σ_g q_g·R_g, where q rises exponentially with each group's loss R_g.

    Losses [B] and group ids [B] of the global batch make R [G] and the group counts n [G]; an example of group g
    weighs q_g/n_g. An enlarged or mixed row counts for the group of its first parent. As in the authors' code the epoch
    can be chosen by its worst group in validation: selection=worst_group_accuracy.

    Source: Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, 2020, arXiv 1911.08731,
    algorithm 1. Departures from the authors' code: weights are scaled to a mean of one over the batch, so the share
    q of groups absent from a batch goes to those present, and the loss keeps the scale of a mean. With accumulation
    R and n are those of each micro-batch.

    Args:
        eta: step size of q, in 1/nats.
        adjustment: K of the generalisation adjustment K/√N_g added to R_g, in nats.
    """

    paper = "Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, 2020, arXiv 1911.08731"
    needs: ClassVar[frozenset[str]] = frozenset({"groups"})
    couples_batch: ClassVar[bool] = True
    collectives: ClassVar[int] = 1
    log_q: Tensor
    margin: Tensor

    def __init__(self, eta: Annotated[float, Ge(0)] = 0.01, adjustment: Annotated[float, Ge(0)] = 0.0) -> None:
        super().__init__()
        self.eta = eta
        self.adjustment = adjustment

    def setup(self, task: Task, model: Classifier) -> None:
        """Equal shares of the groups."""
        groups = task.num_groups
        counts = torch.ones(groups) if task.group_counts is None else task.group_counts
        uniform = torch.full((groups,), 1 / max(groups, 1), dtype=torch.float64)
        self.register_buffer("log_q", uniform.log())
        self.register_buffer("margin", self.adjustment / counts.double().clamp(min=1).sqrt())

    def weigh(self, outcome: Outcome, batch: Batch, step: Step) -> Float[Tensor, " B"]:
        """q_g/n_g for each example [B], after q has taken its step."""
        if batch.group is None:
            raise ValueError("the batch has no groups")
        loss = outcome.loss.detach().double()
        here = torch.zeros(2, len(self.log_q), dtype=torch.float64, device=loss.device)
        here[0].index_add_(0, batch.group, loss)
        here[1].index_add_(0, batch.group, torch.ones_like(loss))
        total, count = step.ranks.sum(here)
        self.log_q = next_log_q(self.log_q, total / count.clamp(min=1) + self.margin, self.eta)
        weight = self.log_q.exp() / count.clamp(min=1)
        return weight[batch.group].to(outcome.loss.dtype)

    def on_epoch_start(self, step: Step) -> None:
        """Log the share of the heaviest group."""
        step.log("group_dro/largest_share", self.log_q.exp().max())


def next_log_q(log_q: Float[Tensor, " G"], risk: Float[Tensor, " G"], eta: float) -> Float[Tensor, " G"]:
    """One exponentiated-gradient step of the groups' shares: log q + η·R, normalised."""
    return torch.log_softmax(log_q + eta * risk, 0)
